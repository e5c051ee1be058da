// Creates a stream: empty, with columns entered by hand, or with columns derived from a file of records.
import { get, post, put, token } from "./api.js";
import { alertOf, count, el } from "./dom.js";
import { load, sample } from "./file.js";
import { typeInput, typeOf } from "./types.js";

const POLICIES = [
  ["evolve", "columns are added as records arrive"],
  ["propose", "new fields are proposed, and kept until you accept them"],
  ["strict", "only these columns; a record that does not fit them is quarantined"],
  ["raw", "no columns: each record is stored whole, as JSON"],
];

export async function newStream({ draw }) {
  const name = el("input", { name: "name", required: true, pattern: "[A-Za-z_][A-Za-z0-9_.\\-]*", maxlength: "128" });
  const policy = el("select", { name: "policy" }, POLICIES.map(([value, text]) => el("option", { value }, `${value}: ${text}`)));
  const columns = el("tbody");
  const store = el("input", { type: "checkbox", checked: true });
  const storeLine = el("label.line", { hidden: true }, store, el("span", "Also store the records of the file"));
  const note = el("div", { "aria-live": "polite" });
  let file = null;

  const add = (column = { name: "", type: "string" }) => {
    const row = el("tr");
    const input = el("input.mono", { value: column.name, required: true, "aria-label": "column name" });
    const removal = el("button.plain", { type: "button", onclick: () => row.remove() }, "Remove");
    row.append(el("td", input), el("td", typeInput(column.type, "column type")), el("td", removal));
    columns.append(row);
  };
  const look = async (chosen) => {
    file = chosen;
    note.replaceChildren(el("p.quiet", `Reading ${file.name} …`));
    try {
      const found = await post("/admin/v1/streams?dry=true&name=sample", await sample(file));
      columns.replaceChildren();
      found.schema.columns.forEach(add);
      if (name.value === "") name.value = file.name.replace(/\..*$/, "").replace(/[^A-Za-z0-9_.-]/g, "_");
      if (policy.value === "evolve") policy.value = "propose";
      storeLine.hidden = false;
      note.replaceChildren(el("p.quiet", `${file.name}: ${count(found.schema.columns.length)} columns. Adjust them, then create the stream.`));
    } catch (error) {
      file = null;
      note.replaceChildren(alertOf(error));
    }
  };
  const make = async (event) => {
    event.preventDefault();
    const written = [...columns.children].map((row) => ({
      name: row.querySelector("input").value.trim(),
      type: typeOf(row.children[1]),
    }));
    try {
      await put(`/admin/v1/streams/${encodeURIComponent(name.value)}`, { version: 0, policy: policy.value, columns: written });
      if (file !== null && store.checked) await storeFile(file, name.value, note);
      location.hash = `#/streams/${encodeURIComponent(name.value)}`;
    } catch (error) {
      note.replaceChildren(alertOf(error));
    }
  };
  draw(
    el("h1", "New stream"),
    dropZone(look),
    el(
      "form",
      { onsubmit: make },
      el("label", "Name", name),
      el("label", "Policy", policy),
      el("table", el("thead", el("tr", el("th", "Column"), el("th", "Type"), el("th"))), columns),
      el("button.plain", { type: "button", onclick: () => add() }, "Add column"),
      storeLine,
      el("button", "Create stream"),
    ),
    note,
  );
}

/** An area to drop a file on, or to choose one. */
function dropZone(look) {
  const input = el("input", {
    type: "file",
    id: "sample",
    accept: ".json,.ndjson,.jsonl,.gz",
    onchange: () => input.files.length > 0 && look(input.files[0]),
  });
  const over = (on) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", on);
  };
  const drop = (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length > 0) look(event.dataTransfer.files[0]);
  };
  const zone = el(
    "div.drop",
    { ondragover: over(true), ondragleave: over(false), ondrop: drop },
    el("label", "Drop an NDJSON file here, plain or gzip, or choose one: its columns are detected", input),
  );
  return zone;
}

async function storeFile(file, name, note) {
  const document = await get("/openapi.json");
  const url = `${document.paths["/v0/events"].servers[0].url}/v0/events?wait=true&name=${encodeURIComponent(name)}`;
  const authorization = token.get() === "" ? {} : { authorization: `Bearer ${token.get()}` };
  const said = el("p", { role: "status" });
  note.replaceChildren(said);
  await load(file, url, authorization, (counts) => {
    said.textContent = `${count(counts.successful_rows)} stored, ${count(counts.quarantined_rows)} quarantined`;
  });
}
