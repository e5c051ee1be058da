// Lists, creates and revokes tokens.
import { get, post, remove } from "./api.js";
import { alertOf, el, table, when } from "./dom.js";

const SCOPES = ["ingest:", "read:", "drop:", "create", "tokens", "admin"];

export async function tokens(page) {
  const { tokens } = await get("/admin/v1/tokens");
  const made = el("div", { "aria-live": "polite" });
  const redraw = async (...notes) => {
    await show((await get("/admin/v1/tokens")).tokens);
    made.replaceChildren(...notes);
  };
  const revoke = async (token) => {
    if (!confirm(`Revoke ${token.name}? Requests with this token will be refused.`)) return;
    try {
      await remove(`/admin/v1/tokens/${encodeURIComponent(token.id)}`);
      await redraw();
    } catch (error) {
      made.replaceChildren(alertOf(error));
    }
  };
  const columns = [
    { name: "Name", cell: (token) => token.name },
    { name: "Kind", cell: (token) => token.kind },
    { name: "Scopes", cell: (token) => el("code", token.scopes.join(" ")) },
    { name: "Origins", cell: (token) => (token.origins ? token.origins.join(" ") : "any") },
    { name: "Expires", cell: (token) => el(token.expired ? "span.bad" : "span", when(token.expires_at)) },
    { name: "", cell: (token) => el("button.plain", { type: "button", onclick: () => revoke(token) }, "Revoke") },
  ];
  const show = async (list) =>
    page.draw(
      el("h1", "Tokens"),
      made,
      table(columns, list, "No tokens yet."),
      el("h2", "New token"),
      form(redraw, made),
    );
  await show(tokens);
}

function form(redraw, made) {
  const name = el("input", { name: "name", required: true });
  const scopes = el("input", { name: "scopes", required: true, placeholder: "ingest:visits", list: "scopes" });
  const origins = el("input", { name: "origins", placeholder: "https://www.example.com" });
  const days = el("input", { name: "days", type: "number", min: "1" });
  const submit = async (event) => {
    event.preventDefault();
    const words = (input) => input.value.split(/[\s,]+/).filter((word) => word !== "");
    const body = { name: name.value.trim(), scopes: words(scopes) };
    if (origins.value.trim() !== "") body.origins = words(origins);
    if (days.value !== "") body.expires_in = Number(days.value) * 86400;
    try {
      const token = await post("/admin/v1/tokens", body);
      await redraw(
        el("p.secret", { id: "new-token" }, `${token.name}, shown only once: `, el("code", token.token)),
      );
    } catch (error) {
      made.replaceChildren(alertOf(error));
    }
  };
  return el(
    "form",
    { onsubmit: submit },
    el("label", "Name", name),
    el("label", "Scopes, separated by spaces", scopes),
    el("datalist", { id: "scopes" }, SCOPES.map((value) => el("option", { value }))),
    el("label", "Origins of pages that may use it (empty: no restriction)", origins),
    el("label", "Days until it expires (empty: never)", days),
    el("button", "Create token"),
  );
}
