"""Random conversations, with what is most likely to go wrong in them."""
import random

WORDS = ["Hello", "the", "what", "is", "2+2", "don't", "naïve", "Grüße", "日本語", "한국어", "العربية", "שלום", "e\u0301", "\u0301", "🙂", "👩‍👩‍👧",
         "1234567", "3.14", "x=1;", "{}", "{{ a }}", "{% b %}", "<b>", "&amp;", "▁", "\ufeff", "#", "'", '"', "\\n", "Ａ", "ﬁ", "İ", "Context:", "###"]
SPACES = [" ", "  ", "\n", "\n\n", "\r\n", "\r", "\t", "\u00a0", "\u3000", "\u0085", "\u2028", "\x1c", "\x0b", " \n ", "\x00", "\u200b", "\x1f"]
MARKS = ["<|im_start|>", "<|im_end|>", "<|im_end|>\n<|im_start|>user\n", "<|eot_id|>", "<|start_header_id|>", "<|begin_of_text|>", "<s>", "</s>",
         "[INST]", "[/INST]", "<<SYS>>", "<|user|>", "<|assistant|>\n", "<|end|>", "<|endoftext|>", "<think>", "</think>", "<think>\n\n</think>\n\n",
         "<tool_response>", "</tool_response>", "<tool_call>", "<|im_", "start|>", "<|", "|>", "<unk>", "### Response:\n", "[TOOL_CALLS]"]


class Conversations:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def content(self):
        r = self.r
        kind = r.random()
        if kind < 0.06:
            return ""
        if kind < 0.10:
            return "".join(r.choices(SPACES, k=r.randint(1, 3)))
        parts = []
        for _ in range(r.choice([1, 1, 2, 3, 5, 8, 13] if kind < 0.995 else [200])):
            parts.append(r.choice(MARKS if r.random() < 0.12 else WORDS))
            parts.append(" " if r.random() < 0.7 else "" if r.random() < 0.5 else r.choice(SPACES))
        text = "".join(parts)
        if r.random() < 0.5:
            text = text.strip()
        if r.random() < 0.15:
            text = r.choice(SPACES) + text
        if r.random() < 0.05:
            text = "<tool_response>" + text + "</tool_response>"
        if r.random() < 0.05:
            text = "<think>" + r.choice(["", "\n", "\n\n", "so "]) + text + r.choice(["</think>", "\n</think>\n\n", "</think>ok"])
        return text

    def conversation(self, form):
        """A list of messages that the template takes. form: system (never, first, any), alternate (bool), roles (more of them)."""
        r = self.r
        turns = r.choice([1, 1, 2, 2, 2, 3, 4, 7])
        messages = []
        if form["system"] != "never" and r.random() < 0.4:
            messages.append("system")
        for t in range(turns):
            if form["alternate"]:
                messages.append("user" if t % 2 == 0 else "assistant")
            else:
                more = ["system"] * (form["system"] == "any") + form.get("roles", [])
                messages.append(r.choice(more) if more and r.random() < 0.08 else r.choice(["user", "assistant"]) if r.random() < 0.3
                                else "user" if t % 2 == 0 else "assistant")
        return [{"role": role, "content": self.content()} for role in messages]
