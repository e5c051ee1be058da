// Reads a file of records: its beginning as a sample, or all of it in pieces of whole lines.

const SAMPLE_BYTES = 1 << 20;
const PIECE_BYTES = 2 << 20;
const NEWLINE = 10;

function stream(file) {
  const bytes = file.stream();
  return file.name.endsWith(".gz") ? bytes.pipeThrough(new DecompressionStream("gzip")) : bytes;
}

/** Yields pieces of whole lines, of about `size` bytes each. */
async function* pieces(file, size) {
  const reader = stream(file).getReader();
  let held = [];
  let bytes = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const end = value.lastIndexOf(NEWLINE) + 1;
      if (bytes + value.length >= size && end > 0) {
        yield new Blob([...held, value.subarray(0, end)]);
        held = [value.subarray(end)];
        bytes = value.length - end;
      } else {
        held.push(value);
        bytes += value.length;
      }
    }
    if (bytes > 0) yield new Blob(held);
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** The first records, enough to derive the columns from. */
export async function sample(file) {
  for await (const piece of pieces(file, SAMPLE_BYTES)) return piece;
  throw new Error(`${file.name} is empty`);
}

/** Sends the whole file. A piece that is sent twice is stored once. */
export async function load(file, url, authorization, progress) {
  const counts = { successful_rows: 0, quarantined_rows: 0 };
  const run = `${file.name}-${file.size}-${file.lastModified}`.replace(/[^!-~]/g, "_").slice(0, 200);
  let number = 0;
  for await (const piece of pieces(file, PIECE_BYTES)) {
    const headers = { "idempotency-key": `${run}-${number}`, ...authorization };
    const answer = await send(url, headers, piece);
    counts.successful_rows += answer.successful_rows;
    counts.quarantined_rows += answer.quarantined_rows;
    number += 1;
    progress(counts);
  }
  return counts;
}

async function send(url, headers, body) {
  for (let attempt = 0; ; attempt += 1) {
    let response = null;
    try {
      response = await fetch(url, { method: "POST", headers, body });
    } catch (error) {
      if (attempt >= 4) throw error;
    }
    if (response?.ok) return response.json();
    if (response !== null && response.status < 500 && response.status !== 429) {
      throw new Error((await response.json()).error);
    }
    if (attempt >= 4) throw new Error(`the daemon answered ${response?.status}`);
    await new Promise((done) => setTimeout(done, 500 * 2 ** attempt));
  }
}
