"""What the program answers to conversations."""
import json
import subprocess

DATE = "26 Jul 2024"


def ours(program, model, template, conversations, *more):
    text = "".join(json.dumps(c) + "\n" for c in conversations)
    command = [program, "tokenize", "--chat", "--model", model.directory, "--template", template, "--template-date", DATE, *more]
    run = subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in run.stdout.split(b"\n") if line]
