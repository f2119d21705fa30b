"""Chat templates in the manner of well-known families: short, with the traits that matter.

Each is written for these tests. It does what the family's own does to turns, thoughts, tools and
the system message; it does not repeat its wording.
"""

from __future__ import annotations

from dataclasses import dataclass

_CHATML_TURNS = """{%- for m in messages %}
{%- if m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- elif m.role != 'assistant' %}
{%- if not (m.role == 'system' and loop.first) %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}
{%- else %}
ASSISTANT
{%- for call in m.tool_calls or [] %}
{%- if not loop.first or m.content %}{{ '\\n' }}{% endif %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson + '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}"""

_CHATML_HEAD = """{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}
{%- else %}{% set system = DEFAULT %}{% endif %}
{%- if tools or system %}
{{- '<|im_start|>system\\n' + system }}
{%- if tools %}{{ '\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' + tool | tojson }}{% endfor %}{{ '\\n</tools>' }}{% endif %}
{{- '<|im_end|>\\n' }}
{%- endif %}"""

_LAST_QUESTION = """{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}"""

_THOUGHTS_APART = """{%- set thoughts = m.reasoning_content or '' %}{% set text = m.content %}
{%- if not thoughts and '</think>' in text %}
{%- set thoughts = text.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{%- set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}"""


def _chatml(default_system: str, assistant: str, end: str) -> str:
    head = _CHATML_HEAD.replace("DEFAULT", repr(default_system))
    turns = _CHATML_TURNS.replace("ASSISTANT", assistant)
    return head + _LAST_QUESTION + turns + end


_PLAIN_REPLY = "{{- '<|im_start|>assistant\\n' + m.content }}"
_OPENS = "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

QWEN2_5 = _chatml("You are helpful.", _PLAIN_REPLY, _OPENS)

QWEN3 = _chatml(
    "",
    _THOUGHTS_APART
    + """{{- '<|im_start|>assistant\\n' }}
{%- if loop.index0 > ns.last and (loop.last or thoughts) %}
{{- '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}{% endif %}
{{- text }}""",
    """{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}
{{- '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}""",
)

QWEN3_5 = _chatml(
    "",
    _THOUGHTS_APART
    + """{{- '<|im_start|>assistant\\n' }}
{%- if loop.index0 > ns.last %}
{{- '<think>\\n' + thoughts | trim + '\\n</think>\\n\\n' }}{% endif %}
{{- text | trim }}""",
    """{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking %}{{ '<think>\\n' }}
{%- else %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}""",
)

# No tools, a default system message.
SMOLLM2 = """{% for m in messages %}
{%- if loop.first and m.role != 'system' %}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# Its own name for tools, no calls, no results.
SMOLLM3 = """{%- if xml_tools %}{{ '<|im_start|>system\\n<tools>' }}
{%- for tool in xml_tools %}{{ '\\n' + tool | string }}{% endfor %}
{{- '\\n</tools><|im_end|>\\n' }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}{{ '<|im_start|>assistant\\n' + m.content + '<|im_end|>\\n' }}
{%- elif m.role in ['user', 'system'] %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# A date, tools in the first question, one call in a message, results as JSON.
LLAMA3_1 = """{{- bos_token }}
{%- if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}
{%- set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday: 26 Jul 2024\\n\\n' + system }}
{{- '<|eot_id|>' }}
{%- for m in messages %}
{%- if m.role == 'tool' %}
{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + m.content | tojson + '<|eot_id|>' }}
{%- elif 'tool_calls' in m %}
{%- if m.tool_calls | length != 1 %}{{ raise_exception('only single tool-calls') }}{% endif %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' }}
{{- m.tool_calls[0].function.name + '", "parameters": ' }}
{{- m.tool_calls[0].function.arguments | tojson + '}<|eot_id|>' }}
{%- else %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}
{%- if loop.first and tools %}
{%- for tool in tools %}{{ tool | tojson(indent=4) + '\\n\\n' }}{% endfor %}{% endif %}
{{- m.content | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

# Channels; thoughts only in the last turn; another end for the last turn; one call.
GPT_OSS = """{{- '<|start|>system<|message|>Date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}
{%- if messages[0].role == 'system' %}{% set rules = messages[0].content %}
{%- set messages = messages[1:] %}{% else %}{% set rules = '' %}{% endif %}
{%- if rules or tools %}{{ '<|start|>developer<|message|>' + rules }}
{%- for tool in tools or [] %}
{{- '\\n// ' + tool.function.description + '\\ntype ' + tool.function.name + ' = ' }}
{{- tool.function.parameters | tojson }}{% endfor %}
{{- '<|end|>' }}{% endif %}
{%- set last_call = namespace(name='') %}
{%- for m in messages %}
{%- if m.role == 'assistant' and 'tool_calls' in m %}
{%- if m.thinking %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking }}
{{- '<|end|>' }}{% endif %}
{%- set last_call.name = m.tool_calls[0].function.name %}
{{- '<|start|>assistant to=functions.' + last_call.name + '<|channel|>commentary json' }}
{{- '<|message|>' + m.tool_calls[0].function.arguments | tojson + '<|call|>' }}
{%- elif m.role == 'assistant' and loop.last and not add_generation_prompt %}
{%- if m.thinking %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking }}
{{- '<|end|>' }}{% endif %}
{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' }}
{%- elif m.role == 'assistant' %}
{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}
{%- elif m.role == 'tool' %}
{{- '<|start|>functions.' + last_call.name + ' to=assistant<|channel|>commentary<|message|>' }}
{{- m.content | tojson + '<|end|>' }}
{%- else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""

# The system message and the tools stand before the last question; ids of nine characters.
MISTRAL_NEMO = """{%- if messages[0].role == 'system' %}{% set system = messages[0].content %}
{%- set messages = messages[1:] %}{% endif %}
{%- set questions = messages | selectattr('role', 'equalto', 'user') | list %}
{%- set ns = namespace(turn=0) %}
{%- for m in messages %}{% if m.role != 'tool' and m.tool_calls is not defined %}
{%- if (m.role == 'user') != (ns.turn % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}
{%- set ns.turn = ns.turn + 1 %}{% endif %}{% endfor %}
{{- bos_token }}
{%- for m in messages %}
{%- if m.role == 'user' %}
{%- if tools and m == questions[-1] %}{{ '[AVAILABLE_TOOLS]' + tools | tojson }}
{{- '[/AVAILABLE_TOOLS]' }}{% endif %}
{{- '[INST]' }}
{%- if loop.last and system is defined %}{{ system + '\\n\\n' }}{% endif %}
{{- m.content + '[/INST]' }}
{%- elif m.tool_calls is defined %}{{ '[TOOL_CALLS][' }}
{%- for call in m.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}
{{- (call.function | tojson)[:-1] + ', "id": "' + call.id + '"}' }}
{%- if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}
{{- ']' + eos_token }}
{%- elif m.role == 'tool' %}
{%- if m.tool_call_id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}
{{- '[TOOL_RESULTS]{"content": ' + m.content + ', "call_id": "' + m.tool_call_id + '"}' }}
{{- '[/TOOL_RESULTS]' }}
{%- else %}{{ m.content + eos_token }}{% endif %}
{%- endfor %}"""

GEMMA2 = """{{ bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}
{%- endif %}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}
{{- m.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

GEMMA3 = """{{ bos_token }}
{%- set first = '' %}
{%- if messages[0].role == 'system' %}{% set first = messages[0].content + '\\n\\n' %}
{%- set messages = messages[1:] %}{% endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}
{%- endif %}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}
{{- (first if loop.first else '') + m.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

# A conversation without an open turn ends with the end of the text; tools are dropped.
PHI3_5 = """{% for m in messages %}{% if m.role in ['system', 'user', 'assistant'] %}
{{- '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

# Opens thoughts, and drops them from every message; arguments as text, no content beside calls.
DEEPSEEK_R1 = """{{ bos_token }}
{%- set ns = namespace(after_tool=false) %}
{%- for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'user' %}{{ '<|User|>' + m.content }}{% endif %}
{%- if m.role == 'tool' %}{{ '<|output|>' + m.content }}{% set ns.after_tool = true %}{% endif %}
{%- if m.role == 'assistant' and m.content is none %}
{{- '<|Assistant|>' }}
{%- for call in m.tool_calls %}
{{- '<|call|>' + call.function.name + '\\n```json\\n' + call.function.arguments + '\\n```' }}
{%- endfor %}{{ eos_token }}
{%- elif m.role == 'assistant' and ns.after_tool %}{{ '<|outputs_end|>' + m.content + eos_token }}
{%- set ns.after_tool = false %}
{%- elif m.role == 'assistant' %}
{{- '<|Assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}
{%- endfor %}
{%- if ns.after_tool %}{{ '<|outputs_end|>' }}
{%- elif add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"""

# Turns without a special token at their end.
PLAIN = """{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"""


@dataclass(frozen=True)
class Family:
    """A template, the special tokens of its model, and those of them that end an answer."""

    template: str
    bos: str
    eos: str
    special: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()


_CHATML_TOKENS = {"bos": "<|endoftext|>", "eos": "<|im_end|>", "special": ("<|im_start|>",)}

FAMILIES = {
    "qwen2.5": Family(QWEN2_5, **_CHATML_TOKENS),
    "qwen3": Family(QWEN3, **_CHATML_TOKENS),
    "qwen3.5": Family(QWEN3_5, **_CHATML_TOKENS),
    "smollm2": Family(SMOLLM2, **_CHATML_TOKENS),
    "smollm3": Family(SMOLLM3, **_CHATML_TOKENS),
    "llama3.1": Family(
        LLAMA3_1,
        "<|begin_of_text|>",
        "<|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>"),
    ),
    "gpt-oss": Family(
        GPT_OSS,
        "<|startoftext|>",
        "<|return|>",
        ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>"),
        ("<|call|>",),
    ),
    "mistral-nemo": Family(MISTRAL_NEMO, "<s>", "</s>", ("[INST]", "[/INST]", "[TOOL_CALLS]")),
    "gemma2": Family(
        GEMMA2, "<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>"), ("<end_of_turn>",)
    ),
    "gemma3": Family(
        GEMMA3, "<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>"), ("<end_of_turn>",)
    ),
    "phi3.5": Family(
        PHI3_5, "<s>", "<|endoftext|>", ("<|user|>", "<|assistant|>", "<|end|>"), ("<|end|>",)
    ),
    "deepseek-r1": Family(DEEPSEEK_R1, "<|begin|>", "<|eos|>", ("<|User|>", "<|Assistant|>")),
    "plain": Family(PLAIN, "<s>", "</s>"),
}
