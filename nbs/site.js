// What the style sheet cannot see: which boxes are wider than their column. They get `scrolls`, which shows that there is
// more to the right, and can be reached by keyboard. A formula in a line that is wider than the line gets one of its own.
(() => {
  "use strict";
  const boxes = "main pre, main .math.display, main .math.inline, main .sd-table, main .cell-output-display, main table";
  const look = () => document.querySelectorAll(boxes).forEach((box) => {
    if (box.matches(".math.inline")) {
      const line = box.closest("p, li, td, th, div");
      if (line && box.getBoundingClientRect().width > line.clientWidth + 1) box.classList.add("wide");
      if (!box.classList.contains("wide")) return;
    }
    const more = box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(box).overflowX);
    box.classList.toggle("scrolls", more);
    if (more) box.tabIndex = 0; else box.removeAttribute("tabindex");
  });
  let waiting = 0;
  const soon = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(look); };
  document.addEventListener("DOMContentLoaded", look);
  window.addEventListener("load", look);
  window.addEventListener("resize", soon);
  document.addEventListener("toggle", soon, true);  // code that was folded
})();
