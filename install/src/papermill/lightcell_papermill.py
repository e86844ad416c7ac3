"""Tells papermill how parameters are written in Rust; papermill loads it by the entry point beside it."""
import re

from papermill.engines import NBClientEngine
from papermill.models import Parameter
from papermill.translators import Translator, papermill_translators

LET = re.compile(r"^\s*let\s+(?:mut\s+)?(\w+)\s*(?::\s*([^=]+?))?\s*=\s*(.+?)\s*;\s*(?://\s*(.*))?$")


class RustTranslator(Translator):
    @classmethod
    def translate_escaped_str(cls, val):
        escape = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
        return '"' + "".join(escape.get(c, c) for c in str(val)) + '"'

    @classmethod
    def translate_none(cls, val):
        return "None"

    @classmethod
    def translate_float(cls, val):
        if val != val:
            return "f64::NAN"
        if val in (float("inf"), float("-inf")):
            return "f64::INFINITY" if val > 0 else "f64::NEG_INFINITY"
        return repr(val)

    @classmethod
    def translate_list(cls, val):
        return f"vec![{', '.join(cls.translate(item) for item in val)}]"

    @classmethod
    def comment(cls, cmt_str):
        return f"// {cmt_str}".strip()

    @classmethod
    def assign(cls, name, str_val):
        return f"let {name} = {str_val};"

    @classmethod
    def inspect(cls, parameters_cell):
        found = (LET.match(line) for line in parameters_cell["source"].splitlines())
        return [
            Parameter(name=let[1], inferred_type_name=let[2] or "None", default=let[3], help=let[4] or "")
            for let in found
            if let
        ]


papermill_translators.register("rust", RustTranslator)
papermill_translators.register("lightcell", RustTranslator)


class Engine(NBClientEngine):
    """papermill's own; that it is registered is why this module is loaded."""
