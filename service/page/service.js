// The page's requests to the service. URLs are relative, because the service may be below a path prefix.

const KEY = "edgewise-api-key";

/** Why there is no answer: the service's own problem, or that it could not be reached. */
export class Problem extends Error {
  constructor(title, detail, status = 0, retryAfter = null) {
    super(title);
    Object.assign(this, { title, detail, status, retryAfter });
  }
}

/** Fetch the bundle's variants. */
export async function variants() {
  return (await ask("v1/variants", { headers: authorization(apiKey.get()) })).document;
}

/** Classify a photo with a variant ("": the active one); return the answer and its round trip in ms. */
export async function classify(photo, variant, signal) {
  const query = variant ? `?variant=${encodeURIComponent(variant)}` : "";
  const { document, roundTrip } = await ask(`v1/classify${query}`, {
    method: "POST",
    body: photo,
    headers: authorization(apiKey.get()),
    signal,
  });
  return { ...document, roundTrip };
}

/** Make `variant` the active one; return the bundle's variants after the switch. */
export async function activate(variant, token) {
  const answer = await ask("v1/variants/active", {
    method: "PUT",
    body: JSON.stringify({ variant }),
    headers: { "Content-Type": "application/json", ...authorization(token) },
  });
  return answer.document;
}

/** The API key: in session storage, or only in memory if the browser allows no storage. */
export const apiKey = {
  inMemory: null,
  get() {
    try {
      return sessionStorage.getItem(KEY) ?? this.inMemory;
    } catch {
      return this.inMemory;
    }
  },
  set(key) {
    this.inMemory = key;
    try {
      sessionStorage.setItem(KEY, key);
    } catch {
      // Then the key lasts until the page is closed.
    }
  },
};

function authorization(secret) {
  return secret ? { Authorization: `Bearer ${secret}` } : {};
}

async function ask(path, options) {
  const started = performance.now();
  let response;
  let text;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const unreadable = options.body instanceof Blob ? ", or the browser can't read the photo" : "";
    throw new Problem("No answer", `The service can't be reached, or closed the connection${unreadable}.`);
  }
  const document = parsed(text);
  if (response.ok && document) return { document, roundTrip: performance.now() - started };
  const retryAfter = Number.parseInt(response.headers.get("Retry-After"), 10);
  throw new Problem(
    document?.title ?? "This answer is not the service's",
    document?.detail ?? `Something between here and the service answered with status ${response.status}.`,
    response.status,
    Number.isNaN(retryAfter) ? null : retryAfter,
  );
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
