// The proposed fields of a stream: accept or dismiss any of them, with the type adjusted.
import { get, post, remove } from "./api.js";
import { alertOf, count, el, table, when } from "./dom.js";
import { typeInput, typeOf } from "./types.js";

export async function proposals(path, about, redraw) {
  const { version, proposals } = await get(`${path}/schema/proposals`);
  if (proposals.length === 0) return el("div");
  const note = el("div", { "aria-live": "polite" });
  const rows = proposals.map((proposal) => ({
    ...proposal,
    chosen: el("input", { type: "checkbox", checked: true, "aria-label": `select ${proposal.name}` }),
    kind: typeInput(proposal.type, `type of ${proposal.name}`),
  }));
  const accept = async () => {
    const chosen = rows.filter((row) => row.chosen.checked);
    const body = { version, accept: chosen.map((row) => ({ path: row.path, type: typeOf(row.kind) })) };
    try {
      await post(`${path}/schema/proposals`, body);
      await redraw();
    } catch (error) {
      note.replaceChildren(alertOf(error));
    }
  };
  const dismiss = async () => {
    try {
      for (const row of rows.filter((row) => row.chosen.checked)) {
        await remove(`${path}/schema/proposals/${encodeURIComponent(row.path.join("."))}`);
      }
      await redraw();
    } catch (error) {
      note.replaceChildren(alertOf(error));
    }
  };
  return el(
    "section",
    { id: "proposals" },
    el("h2", "Proposed columns"),
    el("p.quiet", "Received fields that have no column. Once accepted, new records fill the column; earlier values stay in _rescued until a replay fills them in."),
    table(
      [
        { name: "", cell: (row) => row.chosen },
        { name: "Field", cell: (row) => el("code", row.path.join(".")) },
        { name: "Type", cell: (row) => row.kind },
        { name: "Count", number: true, cell: (row) => count(row.count) },
        { name: "First seen", cell: (row) => when(row.first_at) },
        { name: "Last seen", cell: (row) => when(row.last_at) },
        { name: "Examples", cell: (row) => el("code", row.examples.map((example) => shown(example)).join(", ")) },
      ],
      rows,
      "",
    ),
    el(
      "p",
      el("button", { type: "button", onclick: accept }, "Accept selected"),
      " ",
      el("button", { type: "button", onclick: dismiss }, "Dismiss selected"),
    ),
    note,
  );
}

const shown = (example) => (typeof example === "string" ? example : JSON.stringify(example));
