"""The program encode_lines, and the count of what differs from it."""
import json
import subprocess


class Program:
    def __init__(self, path):
        self.path = path
        self.differences = 0

    def answers(self, tokenizer, command, values):
        text = "".join(json.dumps(v) + "\n" for v in values)
        run = subprocess.run([self.path, tokenizer, command], input=text.encode(), stdout=subprocess.PIPE, check=True)
        return [json.loads(line) for line in run.stdout.split(b"\n") if line]

    def report(self, name, what, inputs, expected, found):
        """Prints one line, and the first inputs whose answers differ."""
        wrong = [i for i in range(len(inputs)) if expected[i] != found[i]] if len(found) == len(inputs) else ["number of answers"]
        print(f"{name:40} {what:16} {len(inputs):7} compared {len(wrong):6} differ", flush=True)
        self.differences += len(wrong)
        for i in wrong[:3] if len(found) == len(inputs) else []:
            print(f"    {inputs[i]!r}\n    expected {expected[i]!r}\n    found    {found[i]!r}")
