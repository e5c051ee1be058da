// One stream: its columns, proposals, latest records, records that could not be stored, and files.
import { get } from "./api.js";
import { bytes, card, count, el, table, when } from "./dom.js";
import { proposals } from "./proposals.js";

const RECORDS = 20;
const FILES = 20;
const ERRORS = 20;

export async function stream(page) {
  const [name] = page.parameters;
  const path = `/admin/v1/streams/${encodeURIComponent(name)}`;
  const redraw = () => stream(page);
  const [about, records, files, errors] = await Promise.all([
    get(path),
    get(`${path}/records?limit=${RECORDS}`),
    get(`${path}/files?limit=${FILES}`),
    get(`${path}/errors?limit=${ERRORS}`),
  ]);
  page.draw(
    el("h1", about.name),
    el("p.quiet", "Policy ", el("b", about.policy), " · id ", el("code", about.id), " · created ", when(about.created_at)),
    el(
      "div.cards",
      card("Stored", count(about.rows.stored)),
      card("Quarantined", count(about.rows.quarantined)),
      card("With rescued values", count(about.rows.rescued)),
      card("Published files", count(about.files.published?.files), bytes(about.files.published?.bytes)),
    ),
    el("h2", `Columns, version ${about.schema.version}`),
    table(
      [
        { name: "Name", cell: (column) => el("code", column.name) },
        { name: "Type", cell: (column) => el("code", column.type) },
      ],
      about.schema.columns,
      "No columns yet: the first records add them.",
    ),
    await proposals(path, about, redraw),
    el("h2", "Latest records"),
    records.records.length === 0
      ? el("p.quiet", "No records yet.")
      : el("pre", { tabindex: "0" }, records.records.map((record) => JSON.stringify(record)).join("\n")),
    el("h2", "Latest records that could not be stored"),
    table(
      [
        { name: "Received", cell: (error) => when(error.received_at) },
        { name: "Position", cell: (error) => el("code", `${error.lsn}/${error.record}`) },
        { name: "Reason", cell: (error) => error.reason },
        { name: "Record", cell: (error) => el("code", error.excerpt) },
      ],
      errors.errors,
      "None: every record of this stream is in its table.",
    ),
    el("h2", "Latest files"),
    table(
      [
        { name: "Object", cell: (file) => el("code", file.object) },
        { name: "State", cell: (file) => file.state },
        { name: "Rows", number: true, cell: (file) => count(file.rows) },
        { name: "Size", number: true, cell: (file) => bytes(file.bytes) },
      ],
      files.files,
      "No files yet.",
    ),
  );
}
