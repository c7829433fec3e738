// Search by words, with titles first. It is what smalldocs finds where it looks for Fuse: `new Fuse(entries)` and
// `.search(query, {limit})`; an entry is a section of a page, with `title`, `section`, `text` and `href`.
(() => {
  "use strict";
  const SMALL = new Set("a an and are as at be by do for from how in is it its of on or that the this to what with".split(" "));

  // The words of a text. A name such as `paged_cache` or `PagedCache` is its parts, and itself without marks.
  const words = (text) => {
    const found = [];
    for (const [token] of text.matchAll(/[\p{L}\d]+(?:[_.-][\p{L}\d]+)*/gu)) {
      const parts = token.replace(/(\p{Ll}|\d)(\p{Lu})/gu, "$1 $2").replace(/(\p{Lu})(\p{Lu}\p{Ll})/gu, "$1 $2").split(/[\s_.-]+/);
      const all = parts.length > 1 ? [...parts, parts.join("")] : parts;
      found.push(...all.map((w) => w.toLowerCase()).map((w) => (w.length > 3 && /[^s]s$/.test(w) ? w.slice(0, -1) : w)));
    }
    return found;
  };

  // The weight of a word in each place; text counts once, a little more if it is often there
  const PLACES = { title: 12, address: 8, section: 10, text: 1 };

  class Search {
    constructor(entries) {
      this.entries = entries;
      this.index = new Map();  // word -> Map of entry -> weight
      this.fields = entries.map((e, i) => {
        const [file, anchor] = e.href.split("#");
        const inside = e.section ? 0.5 : 1;  // the page itself comes before its sections
        const field = { title: words(e.title), address: words(file.replace(/\.html$/, "")), section: words(`${e.section} ${anchor || ""}`), text: words(e.text) };
        for (const [place, list] of Object.entries(field)) {
          const count = new Map();
          for (const w of list) count.set(w, (count.get(w) || 0) + 1);
          for (const [w, n] of count) {
            const own = this.index.get(w) || this.index.set(w, new Map()).get(w);
            const worth = place === "text" ? PLACES.text * (1 + Math.log(n)) : PLACES[place] * (place === "section" ? 1 : inside);
            own.set(i, (own.get(i) || 0) + worth);
          }
        }
        // What an entry is called: its heading; of a page, its title and the end of its address
        const called = e.section ? [words(e.section)] : [field.title, words(file.replace(/\.html$/, "").split(".").pop())];
        return { called: called.map((list) => ` ${list.join(" ")} `), text: ` ${field.text.join(" ")} `, worth: /(^|_)(init|api)$/.test(file.replace(/\.html$/, "")) ? 0.3 : 1 };
      });
    }

    // For one word of the query the weight of each entry; a word that begins with it counts half
    weights(word) {
      const found = new Map();
      for (const [w, entries] of this.index) {
        if (w !== word && !(word.length > 2 && w.startsWith(word))) continue;
        const rare = Math.log(1 + this.entries.length / entries.size) * (w === word ? 1 : 0.5);
        for (const [i, x] of entries) found.set(i, Math.max(found.get(i) || 0, x * rare));
      }
      return found;
    }

    search(query, { limit = 20 } = {}) {
      const asked = [...new Set(words(query))], long = asked.filter((w) => !SMALL.has(w));
      const wanted = long.length ? long : asked;
      if (!wanted.length) return [];
      const found = wanted.map((w) => this.weights(w)), score = new Map(), hits = new Map();
      for (const one of found) for (const [i, x] of one) {
        score.set(i, (score.get(i) || 0) + x);
        hits.set(i, (hits.get(i) || 0) + 1);
      }
      const most = Math.max(0, ...hits.values()), phrase = ` ${words(query).join(" ")} `;
      const ranked = [...score].filter(([i]) => hits.get(i) === most).map(([i, x]) => {
        const { called, text, worth } = this.fields[i], page = this.entries[i].section ? 1 : 2;   // titles first
        const better = called.includes(phrase) ? 3 * page : called.some((c) => c.includes(phrase)) ? 1.8 * page : wanted.length > 1 && text.includes(phrase) ? 1.3 : 1;
        return [i, x * better * worth];   // lists of names come after what they list
      }).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
      const seen = new Map(), out = [];
      for (const [i] of ranked) {   // three of a page, so that other pages are seen too
        const page = this.entries[i].href.split("#")[0], n = seen.get(page) || 0;
        if (n < 3) out.push({ item: this.entries[i], refIndex: i });
        seen.set(page, n + 1);
        if (out.length === limit) break;
      }
      return out;
    }
  }
  globalThis.Fuse = Search;
})();
