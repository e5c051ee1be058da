// A client of the admin API. The console uses only what /openapi.json describes.

const KEY = "forebay-admin-token";

export class Unauthorized extends Error {}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

async function call(method, path, body, headers = {}) {
  const request = { method, headers: { ...headers } };
  if (token.get() !== "") request.headers.authorization = `Bearer ${token.get()}`;
  if (body instanceof Blob) request.body = body;
  else if (body !== undefined) {
    request.headers["content-type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  const response = await fetch(path, request);
  const text = await response.text();
  let value = null;
  try {
    value = text === "" ? null : JSON.parse(text);
  } catch {
    value = { detail: text };
  }
  if (response.status === 401) throw new Unauthorized(value?.detail ?? "a token is required");
  if (!response.ok) throw new Error(value?.detail ?? `${response.status} ${response.statusText}`);
  return value;
}

export const get = (path) => call("GET", path);
export const post = (path, body, headers) => call("POST", path, body, headers);
export const put = (path, body) => call("PUT", path, body);
export const patch = (path, body) => call("PATCH", path, body);
export const remove = (path) => call("DELETE", path);

/** Like get, but also returns a state if the listener is starting or cannot be reached. */
export async function ready() {
  try {
    const response = await fetch("/readyz");
    return await response.json();
  } catch {
    return { ready: false, reason: "not reachable" };
  }
}
