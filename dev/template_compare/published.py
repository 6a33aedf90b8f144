"""Chat templates as they were published, read from the packages that carry copies of them. No copy is kept here."""
import ast
import glob
import os
import re


def trl(directory):
    return {name: open(f"{directory}/{name}.jinja").read()
            for name in (os.path.basename(p)[:-6] for p in glob.glob(f"{directory}/*.jinja"))}


def llama_cpp_tests(path):
    """The list of tests/test-chat-template.cpp in llama.cpp: name -> template."""
    entry = r'\.name= \*/ ("(?:[^"\\]|\\.)*")(?:.|\n)*?\.template_str= \*/ ("(?:[^"\\]|\\.)*")'
    return {ast.literal_eval(name): ast.literal_eval(text) for name, text in re.findall(entry, open(path).read())}


def llama_cpp_python(path):
    """The constants of llama_cpp/llama_chat_format.py."""
    tree = ast.parse(open(path).read())
    return {node.targets[0].id: node.value.value for node in tree.body
            if isinstance(node, ast.Assign) and node.targets[0].id.endswith("_CHAT_TEMPLATE")}


def unsloth(path):
    """The constants of unsloth/chat_templates.py."""
    tree = ast.parse(open(path).read())
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.endswith("_template"):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                pass
    return {name: text for name, text in found.items() if isinstance(text, str)}


def arguments(parser):
    parser.add_argument("--trl", required=True, help="trl's directory chat_templates")
    parser.add_argument("--llama-cpp", required=True, help="source of llama-cpp-python")
    parser.add_argument("--unsloth", default="", help="unsloth's chat_templates.py")
    parser.add_argument("--jinja", nargs="+", required=True, help="files with templates; the first is SmolLM2's chat_template.jinja")
    parser.add_argument("--seed", type=int, default=1)


def collect(options):
    """(package, name) -> text of everything that the given packages have."""
    found = {}
    if options.trl:
        found.update({("trl", n): t for n, t in trl(options.trl).items()})
    if options.llama_cpp:
        tests = glob.glob(f"{options.llama_cpp}/**/test-chat-template.cpp", recursive=True)
        formats = glob.glob(f"{options.llama_cpp}/**/llama_chat_format.py", recursive=True)
        for path in tests[:1]:
            found.update({("llama.cpp", n): t for n, t in llama_cpp_tests(path).items()})
        for path in formats[:1]:
            found.update({("llama-cpp-python", n): t for n, t in llama_cpp_python(path).items()})
        for path in glob.glob(f"{options.llama_cpp}/**/models/templates/*.jinja", recursive=True):
            found["llama.cpp", os.path.basename(path)[:-6]] = open(path).read()
    if options.unsloth:
        found.update({("unsloth", n): t for n, t in unsloth(options.unsloth).items()})
    for path in options.jinja:
        found["file", path] = open(path).read()
    return found
