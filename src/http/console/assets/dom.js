// Builds elements from data. Text is always set as text, never as markup, because names and values are untrusted.

/** el("td.number", {title: "x"}, "text", child, …) */
export function el(what, ...rest) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag);
  if (classes.length > 0) node.className = classes.join(" ");
  for (const part of rest) {
    if (part === null || part === undefined || part === false) continue;
    if (Array.isArray(part)) node.append(...part.filter((child) => child !== null && child !== false));
    else if (part instanceof Node || typeof part !== "object") node.append(part);
    else set(node, part);
  }
  return node;
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
}

/** columns: [{name, number?, cell(row)}] */
export function table(columns, rows, whenEmpty) {
  if (rows.length === 0) return el("p.quiet", whenEmpty);
  const style = (column) => (column.number ? ".number" : "");
  return el(
    "table",
    el("thead", el("tr", columns.map((column) => el("th" + style(column), column.name)))),
    el("tbody", rows.map((row) => el("tr", columns.map((column) => el("td" + style(column), column.cell(row)))))),
  );
}

export function card(label, value, note) {
  return el("div.card", el("span.quiet", label), el("b", value), note ? el("span.quiet", note) : null);
}

export const count = (number) => (number ?? 0).toLocaleString("en");

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let value = number ?? 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${value.toFixed(at > 0 && value < 100 ? 1 : 0)} ${units[at]}`;
}

export function when(text) {
  if (!text) return "–";
  const at = new Date(text);
  return el("time", { datetime: text, title: text }, Number.isNaN(at.getTime()) ? text : at.toLocaleString());
}

export function alertOf(error) {
  return el("p", { role: "alert" }, error.message ?? String(error));
}
