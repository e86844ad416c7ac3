"""Whether the oracles notice faults: plants some in a copy of the sources, one after another, and runs them.

    python tests/mutations/run.py [CARGO ARGUMENTS, such as --config PATH]

Run by hand, from anywhere in a clone; the environment must let `cargo test -p lightcell --test oracles` run (LIBTORCH, or an
installation's configuration, and LD_LIBRARY_PATH). All faults are in one build, and an environment variable wakes one of
them. Without a fault the tests must be green, with each they must be red; ends with 1 otherwise.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = subprocess.run(
    ["git", "rev-parse", "--show-toplevel"], cwd=os.path.dirname(os.path.abspath(__file__)), capture_output=True, text=True, check=True
).stdout.strip()
FIT = "magics/fit/src"

# Name, what it is, file, the text that is replaced, by what. Every `fault("name")` is true while that fault is awake.
FAULTS = [
    (
        "draw_order",
        "Linear draws its bias before its weight",
        f"{FIT}/layers/linear.rs",
        "        path.module(\"Linear\");\n        Linear {\n            weight: path.trained(",
        "        path.module(\"Linear\");\n"
        "        if crate::fault(\"draw_order\") && self.bias {\n"
        "            let bias = init::bias(self.outputs, self.inputs);\n"
        "            let weight = path.trained(\"weight\", &init::weight(&[self.outputs, self.inputs], self.inputs));\n"
        "            return Linear { weight, bias: Some(path.trained(\"bias\", &bias)) };\n"
        "        }\n"
        "        Linear {\n            weight: path.trained(",
    ),
    (
        "no_division",
        "the loss is not divided by the batches of its window",
        f"{FIT}/looping/training.rs",
        "let share = match window.divisor {\n                1 => None,",
        "let share = match window.divisor {\n                _ if crate::fault(\"no_division\") => None,\n                1 => None,",
    ),
    (
        "sum",
        "an epoch's value is the sum of its batches' instead of their weighted mean",
        f"{FIT}/means.rs",
        "(name.clone(), sum / weight)",
        "(name.clone(), if crate::fault(\"sum\") { *sum } else { sum / weight })",
    ),
    (
        "unweighted",
        "batches of different size count the same in a mean",
        f"{FIT}/means.rs",
        "    fn add(&mut self, name: String, value: f64, len: i64) {\n",
        "    fn add(&mut self, name: String, value: f64, len: i64) {\n"
        "        let len = if crate::fault(\"unweighted\") { 1 } else { len };\n",
    ),
    (
        "early_plateau",
        "ReduceLROnPlateau steps before its epoch's validation",
        f"{FIT}/looping.rs",
        "            let validates = self.validates_after(epoch);\n",
        "            let validates = self.validates_after(epoch);\n"
        "            if crate::fault(\"early_plateau\") {\n"
        "                // With what the epoch before gave; the first has nothing yet.\n"
        "                let before = self.metrics.clone();\n"
        "                let _ = self.state.optimizer.after_validation(&before);\n"
        "            }\n",
    ),
    (
        "early_plateau",
        None,
        f"{FIT}/looping.rs",
        "if !stopped && pass.whole() && !self.trainer.trial {",
        "if !stopped && pass.whole() && !self.trainer.trial && !crate::fault(\"early_plateau\") {",
    ),
    (
        "first_step",
        "an optimizer's every step is its first",
        f"{FIT}/optim/optimizer.rs",
        "                    step: step + 1,\n",
        "                    step: if crate::fault(\"first_step\") { 1 } else { step + 1 },\n",
    ),
]

FAULT = '''
/// Whether a planted fault is awake.
pub(crate) fn fault(name: &str) -> bool {
    std::env::var("LIGHTCELL_FAULT").is_ok_and(|awake| awake == name)
}
'''


def plant(copy):
    for name, _, file, old, new in FAULTS:
        path = os.path.join(copy, file)
        text = open(path).read()
        if text.count(old) != 1:
            sys.exit(f"{name}: the text that it replaces is {text.count(old)} times in {file}; the script needs an update")
        open(path, "w").write(text.replace(old, new))
    with open(os.path.join(copy, FIT, "lib.rs"), "a") as file:
        file.write(FAULT)


def main():
    cargo = ["cargo", "test", "--release", "-p", "lightcell", "--test", "oracles", *sys.argv[1:]]
    copy = tempfile.mkdtemp(prefix="lightcell-mutations-")
    # A target folder of its own: cargo would take what is built from the copy for built from the clone.
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(ROOT, "target")
    build = dict(os.environ, CARGO_TARGET_DIR=os.path.join(target, "mutations"))
    try:
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for file in filter(None, files.split("\0")):
            if os.path.isfile(os.path.join(ROOT, file)):
                os.makedirs(os.path.dirname(os.path.join(copy, file)), exist_ok=True)
                shutil.copy(os.path.join(ROOT, file), os.path.join(copy, file))
        plant(copy)
        if subprocess.run([*cargo, "--no-run"], cwd=copy, env=build).returncode:
            sys.exit("the copy with the faults does not build")
        wrong = False
        named = {"": "no fault"} | {name: about for name, about, *_ in FAULTS if about}
        for name, about in named.items():
            environment = dict(build, LIGHTCELL_FAULT=name, OMP_NUM_THREADS="1")
            run = subprocess.run(cargo, cwd=copy, env=environment, capture_output=True, text=True)
            failed = sorted(set(re.findall(r"^test (\S+) \.\.\. FAILED$", run.stdout, re.M)))
            as_it_should = bool(failed) if name else run.returncode == 0
            wrong |= not as_it_should
            colour = "red" if failed else "green"
            if run.returncode and not failed:
                # It did not come to the tests.
                print(run.stdout[-2000:], run.stderr[-2000:])
            print(f"{'ok' if as_it_should else 'WRONG':<6} {colour:<6} {about}", *failed, sep="\n         " if failed else "", flush=True)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
