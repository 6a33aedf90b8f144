"""Our templates with what they are held to: the published text (`template`), the same with {% generation %} around what is trained (`marked`:
TRL's training template, or, where there is none, the published text with the tags put in by `tags`), and which conversations it takes."""


def tags(text, *replacements):
    """The published text with tags. Each replacement must fit exactly once."""
    if text is None:
        return None
    for old, new in replacements:
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    return text


ON, OFF = "{% generation %}", "{% endgeneration %}"
# Zephyr and Llama 2 are not in any of the packages; these texts are ours, and show what the published ones show (the fingerprints in
# data/known_templates.inc are of verbatim copies, for which fingerprints.py says so).
ZEPHYR = r"""{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"""
LLAMA2 = r"""{% set first = messages[0].role == 'system' %}{% for m in messages %}{% if m.role == 'user' %}{% if first and loop.index0 == 1 %}{% set text = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' + m.content %}{% else %}{% set text = m.content %}{% endif %}{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""


def forms(published):
    def text(package, name):
        return published.get((package, name))

    smollm2 = next((t for (package, _), t in published.items() if package == "file"), None)
    chatml = text("llama-cpp-python", "CHATML_CHAT_TEMPLATE")
    old_mistral = [text("llama-cpp-python", n) for n in ("MISTRAL_INSTRUCT_CHAT_TEMPLATE", "MIXTRAL_INSTRUCT_CHAT_TEMPLATE")]
    mistral = text("llama.cpp", "mistralai/Mistral-7B-Instruct-v0.2 (mistralai 'v1' template with a system prompt)")
    mistral3 = text("llama.cpp", "Mistral-Large-Instruct-2407 (mistralai 'v3' template; modified to have system prompt at start)")
    nemo = text("llama.cpp", "mistralai-Mistral-Nemo-Instruct-2407")
    turn = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    turns = (turn, "{% if message['role'] == 'assistant' %}{{'<|im_start|>assistant\n'}}" + ON +
             "{{ message['content'] + '<|im_end|>\n' }}" + OFF + "{% else %}" + turn + "{% endif %}")
    # The published v3 templates show the system text in a last user's turn only. Ours stands in the last user's turn in any case.
    last = ("loop.last and system_message is defined", "system_message is defined and loop.index0 == (loop.length - 1) // 2 * 2")
    any_turn = {"system": "any", "alternate": False}
    alternate = {"system": "first", "alternate": True}
    without_system = {"system": "never", "alternate": True}
    llama3 = ["Llama 3", "Llama 3, tiktoken"]
    llama2 = ["Llama 2", "Llama 2, SentencePiece"]
    dated = tags(text("trl", "llama3_1"), (
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}",
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}{%- if message['role'] == 'assistant' %}" + ON +
        "{{- message['content'] | trim + '<|eot_id|>' }}" + OFF + "{%- else %}{{- message['content'] | trim + '<|eot_id|>' }}{%- endif %}"))
    qwen3 = tags(text("trl", "qwen3"),
                 ("{%- if loop.index0 > ns.last_query_index %}", "{{- '<|im_start|>assistant\\n' }}" + ON + "{%- if loop.index0 > ns.last_query_index %}"),
                 ("'<|im_start|>' + message.role + '\\n<think>\\n' +", "'<think>\\n' +"),
                 ("        {{- '<|im_end|>\\n' }}\n    {%- elif message.role == \"tool\" %}",
                  "        {{- '<|im_end|>\\n' }}" + OFF + "\n    {%- elif message.role == \"tool\" %}"))
    if qwen3:
        assert qwen3.count("{{- '<|im_start|>' + message.role + '\\n' + content }}") == 2
        qwen3 = qwen3.replace("{{- '<|im_start|>' + message.role + '\\n' + content }}", "{{- content }}")
    return {
        "chatml": {"template": chatml, "marked": tags(chatml, turns), "tokenizers": ["SmolLM2", "Qwen-like"], **any_turn, "roles": ["tool", "critic"]},
        "smollm2": {"template": smollm2, "marked": tags(smollm2, turns), "tokenizers": ["SmolLM2"], **any_turn, "roles": ["tool"]},
        "qwen2.5": {"template": text("trl", "qwen2_5"), "marked": text("trl", "qwen2_5_training"), "tokenizers": ["Qwen-like"], **any_turn},
        "qwen3": {"template": text("trl", "qwen3"), "marked": qwen3, "tokenizers": ["Qwen-like"], **any_turn, "arguments": {"enable_thinking": False}},
        "llama2": {"template": LLAMA2, "tokenizers": llama2, **alternate, "marked": tags(LLAMA2, (
            "{{ ' ' + m.content.strip() + ' ' + eos_token }}", ON + "{{ ' ' + m.content.strip() + ' ' + eos_token }}" + OFF))},
        "llama3": {"template": text("trl", "llama3"), "marked": text("trl", "llama3_training"), "tokenizers": llama3, **any_turn, "roles": ["tool"]},
        "llama3.1": {"template": text("trl", "llama3_2"), "marked": dated, "tokenizers": llama3, **any_turn, "roles": ["critic"],
                     "arguments": {"date_string": "26 Jul 2024"}},
        "mistral0.1": {"template": old_mistral[0], "tokenizers": ["Mistral v1"], **without_system, "marked": tags(old_mistral[0], (
            "{{ message['content'] + eos_token + ' ' }}", ON + "{{ message['content'] + eos_token }}" + OFF + "{{ ' ' }}"))},
        "mixtral": {"template": old_mistral[1], "tokenizers": ["Mistral v1"], **without_system, "marked": tags(old_mistral[1], (
            "{{ message['content'] + eos_token}}", ON + "{{ message['content'] + eos_token}}" + OFF))},
        "mistral": {"template": mistral, "tokenizers": ["Mistral v1"], **alternate, "marked": tags(mistral, (
            "{{- ' ' + message['content'] + eos_token}}", ON + "{{- ' ' + message['content'] + eos_token}}" + OFF))},
        "mistral3": {"template": tags(mistral3, last), "tokenizers": ["Mistral v3"], **alternate, "marked": tags(mistral3, last, (
            '{{- " " + message["content"]|trim + eos_token}}', ON + '{{- " " + message["content"]|trim + eos_token}}' + OFF))},
        "mistral-nemo": {"template": tags(nemo, last), "tokenizers": ["Mistral v3"], **alternate, "marked": tags(nemo, last, (
            '{{- message["content"] + eos_token}}', ON + '{{- message["content"] + eos_token}}' + OFF))},
        "phi3": {"template": text("trl", "phi3"), "marked": text("trl", "phi3_training"), "tokenizers": ["Phi-3-like"], **any_turn},
        "phi3.5": {"template": text("trl", "phi3_5"), "marked": text("trl", "phi3_5_training"), "tokenizers": ["Phi-3-like"], **any_turn},
        "zephyr": {"template": ZEPHYR, "tokenizers": ["Llama 2", "SmolLM2"], **any_turn, "marked": (
            r"{% for m in messages %}{{ '<|' + m.role + '|>\n' }}{% if m.role == 'assistant' %}" + ON + r"{{ m.content + eos_token + '\n' }}" + OFF +
            r"{% else %}{{ m.content + eos_token + '\n' }}{% endif %}{% endfor %}")},
    }
