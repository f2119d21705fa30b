"""Modelfiles: their Go template writes what the model's own Jinja template writes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from transformers import AutoTokenizer

from exportable_model import CHAT, PLAIN
from tunesmith.engine.transfer import ExportError, find_model
from tunesmith.engine.transfer.ollama import modelfile

pytestmark = [
    pytest.mark.slow,
    # PEFT uses transformers' old names.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),
]

CHATML_WITH_DEFAULT = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HEADERS = (
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
QUOTED = (
    "{% for m in messages %}{{ m['role'] }}: \"{{ m['content'] }}\"\t\\ \U0001f600\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}"
    "{{ '<start>' + m['role'] + '\n' + m['content'] + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>model\n' }}{% endif %}"
)
FOLDS_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] + '\n\n' %}"
    "{% set ms = messages[1:] %}{% else %}{% set s = '' %}{% set ms = messages %}{% endif %}"
    "{% for m in ms %}{% if m['role'] == 'user' %}[INST] {% if loop.first %}{{ s }}{% endif %}"
    "{{ m['content'] }} [/INST]{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
)
CONVERSATIONS = [
    [("user", "One")],
    [("user", 'Say "hi"'), ("assistant", "hi"), ("user", "again\nand again")],
    [("system", "Be {brief}."), ("user", "One"), ("assistant", "Two"), ("user", "Three")],
]


def template_of(text):
    return re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)[1]


def render_go(template, conversation):
    """Render the subset of Go's template language that is used here."""
    messages = [{"role": role, "content": content} for role, content in conversation]
    body = template.split("{{- range $i, $m := .Messages }}\n")[1]
    inside, _, tail = body.rpartition("\n{{- end }}")
    text = ""
    for index, message in enumerate(messages):
        for line in inside.splitlines():
            opening = re.match(r"\{\{- if and \(eq \$i 0\) .*?\}\}(.*)\{\{- end \}\}$", line)
            turn = re.match(r'\{\{- (?:else )?if eq \$m\.Role "(\w+)" \}\}(.*)$', line)
            if opening and index == 0 and message["role"] != "system":
                text += actions(opening[1], message)
            elif turn and turn[1] == message["role"]:
                text += actions(turn[2], message)
    return text + actions(tail, {})


def actions(text, message):
    found = re.findall(r'\{\{-? ("(?:[^"\\]|\\.)*"|\$m\.Content) \}\}', text)
    return "".join(message["content"] if one == "$m.Content" else json.loads(one) for one in found)


def run_go(folder, template, conversation):
    """Render with Go itself."""
    (folder / "t.tmpl").write_text(template)
    data = {"Messages": [{"Role": role, "Content": content} for role, content in conversation]}
    (folder / "d.json").write_text(json.dumps(data))
    (folder / "main.go").write_text(
        'package main\nimport ("encoding/json"; "os"; "text/template")\n'
        "type M struct { Role, Content string }\ntype D struct { Messages []M }\n"
        'func main() { t, _ := os.ReadFile("t.tmpl"); d, _ := os.ReadFile("d.json"); var v D\n'
        "json.Unmarshal(d, &v)\n"
        'template.Must(template.New("t").Parse(string(t))).Execute(os.Stdout, v) }\n'
    )
    environment = {
        "HOME": str(folder),
        "PATH": "/usr/bin:/bin:/usr/local/bin",
        "GOFLAGS": "-mod=mod",
    }
    return subprocess.run(
        [shutil.which("go"), "run", "main.go"],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=True,
    ).stdout.decode()


@pytest.fixture
def source(engine):
    return find_model(CHAT, engine.home, engine.database)


@pytest.fixture
def tokenizer(known_base):
    return AutoTokenizer.from_pretrained(known_base)


@pytest.mark.parametrize("jinja", [CHATML_WITH_DEFAULT, HEADERS, QUOTED])
def test_the_go_template_writes_what_the_jinja_template_writes(source, tokenizer, jinja, tmp_path):
    tokenizer.chat_template = jinja
    template = template_of(modelfile("m.gguf", source, tokenizer))
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        expected = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        assert render_go(template, conversation) == expected
        if shutil.which("go"):
            assert run_go(tmp_path, template, conversation) == expected


@pytest.mark.parametrize("jinja", [NO_SYSTEM, FOLDS_SYSTEM])
def test_a_template_that_go_cannot_express_is_refused(source, tokenizer, jinja):
    tokenizer.chat_template = jinja
    with pytest.raises(ExportError, match=r"llama\.cpp reads the model's own template"):
        modelfile("m.gguf", source, tokenizer)


def test_a_start_token_that_the_tokenizer_adds_is_not_written_twice(source, tokenizer):
    tokenizer.chat_template = "{{ bos_token }}" + HEADERS
    from tokenizers.processors import TemplateProcessing

    template = template_of(modelfile("m.gguf", source, tokenizer))
    assert tokenizer.bos_token in template
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tokenizer.bos_token_id)]
    )
    template = template_of(modelfile("m.gguf", source, tokenizer))
    assert tokenizer.bos_token not in template


def test_a_completion_model_gets_its_prompt_as_it_is(engine, tokenizer):
    text = modelfile("m.gguf", find_model(PLAIN, engine.home, engine.database), tokenizer)
    assert template_of(text) == "{{ .Prompt }}"
