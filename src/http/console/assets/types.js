// The column types that are suggested; any other type can be entered.
import { el } from "./dom.js";

const TYPES = [
  "string", "int64", "float64", "bool", "timestamp", "date", "json", "int32", "int16", "int8", "uint64", "float32",
  "decimal(18, 2)", "uuid", "list<string>", "list<int64>", "map<string>",
];

/** An input for a type that suggests the usual ones. */
export function typeInput(value, label) {
  const id = `types-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
  return el(
    "span",
    el("input.mono", { value, list: id, required: true, "aria-label": label }),
    el("datalist", { id }, TYPES.map((type) => el("option", { value: type }))),
  );
}

export const typeOf = (cell) => cell.querySelector("input").value.trim();
