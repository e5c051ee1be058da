// The list of all streams.
import { get } from "./api.js";
import { count, el, table, when } from "./dom.js";

export async function streams({ draw }) {
  const { streams } = await get("/admin/v1/streams");
  const link = (stream) => el("a", { href: `#/streams/${encodeURIComponent(stream.name)}` }, stream.name);
  draw(
    el("h1", "Streams"),
    el("p", el("a", { href: "#/streams/new" }, "New stream")),
    table(
      [
        { name: "Name", cell: link },
        { name: "Policy", cell: (stream) => stream.policy },
        { name: "Stored", number: true, cell: (stream) => count(stream.rows.stored) },
        { name: "Quarantined", number: true, cell: (stream) => count(stream.rows.quarantined) },
        { name: "Rescued", number: true, cell: (stream) => count(stream.rows.rescued) },
        { name: "Created", cell: (stream) => when(stream.created_at) },
      ],
      streams,
      "No streams yet. Create one here, or send an event.",
    ),
  );
}
