// The current state of the daemon.
import { get } from "./api.js";
import { bytes, card, count, el } from "./dom.js";

const REFRESH_MS = 2000;

export async function overview({ draw, signal }) {
  const refresh = async () => {
    const status = await get("/admin/v1/status");
    draw(...page(status));
  };
  await refresh();
  const timer = setInterval(() => refresh().catch(() => {}), REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function page(status) {
  const { watermarks, lag_seconds: lag } = status;
  const behind = (seconds) => (seconds === 0 ? "up to date" : `${seconds.toFixed(1)} s behind`);
  return [
    el("h1", "Overview"),
    status.ready ? null : el("p", { role: "alert" }, `The daemon accepts no requests: ${status.reason}`),
    el(
      "div.cards",
      card("Accepted rows", count(status.accepted.rows), `${bytes(status.accepted.bytes)} since start`),
      card("Streams", count(status.streams)),
      card("Log", bytes(status.log.bytes), `segments: ${count(status.log.segments)}; ${bytes(status.log.unsynced_bytes)} not synced`),
      card("Staged", count(status.staged.files), bytes(status.staged.bytes)),
      card("Open files", count(status.compactor.open_files), bytes(status.compactor.memory_bytes)),
      card("Uptime", duration(status.uptime_seconds), `version ${status.version}, node ${status.node}`),
    ),
    el("h2", "Progress"),
    el(
      "table",
      el("tbody", [
        ["appended", watermarks.appended, "survives a crash of the process"],
        ["durable", watermarks.durable, "survives power loss"],
        ["checkpoint", watermarks.checkpoint, `in registered files; ${behind(lag.checkpoint)}`],
        ["published", watermarks.published, `at ${status.destination}; ${behind(lag.published)}`],
      ].map(([name, lsn, note]) => el("tr", el("td", name), el("td.number", el("code", lsn)), el("td.quiet", note)))),
    ),
    status.log.refusing ? el("p", { role: "alert" }, `The log refuses requests: ${status.log.refusing}`) : null,
    status.compactor.last_error ? el("p", { role: "alert" }, status.compactor.last_error) : null,
  ].filter((node) => node !== null);
}

function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60]];
  const [name, size] = units.find(([, size]) => seconds >= size) ?? ["s", 1];
  return `${Math.floor(seconds / size)} ${name}`;
}
