// A client that asks as the API's Node SDK does: Bearer, JSON, gives up after 30 s, reads `error` and `message`.

const base = process.env.BASE_URL;

class ApiError extends Error {
  constructor(status, code, message, requestId) {
    super(message);
    Object.assign(this, { status, code, requestId });
  }
}

async function call(key, method, path, body, timeoutMs = 30_000) {
  const response = await fetch(base + path, {
    method,
    headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json", Accept: "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(timeoutMs),
  });
  const parsed = await response.json();
  if (!response.ok) {
    throw new ApiError(response.status, parsed.error, parsed.message, response.headers.get("x-request-id"));
  }
  return parsed.data;
}

function check(condition, what) {
  if (!condition) throw new Error(`not so: ${what}`);
}

async function refused(promise, status, code) {
  const error = await promise.then(() => undefined, (failure) => failure);
  check(error instanceof ApiError, `a refusal, but ${error}`);
  check(error.status === status && error.code === code, `${status} ${code}, but ${error.status} ${error.code}`);
  check(error.message.length > 0 && error.requestId?.length > 0, "a message and a request id");
}

const key = process.env.API_KEY;
for (let i = 0; i < 5; i++) {
  check((await call(key, "GET", "/v1/wallets/wlt_1")).ok, "a wallet");
}
check((await call(key, "POST", "/v1/transfers/p2p", { from: "wlt_1", to: "wlt_2", amount: 150000 })).ok, "a transfer");
check((await call(key, "GET", "/v1/chunked")).ok, "a chunked answer");
const many = await Promise.all(Array.from({ length: 20 }, () => call(key, "GET", "/v1/wallets/wlt_1")));
check(many.every((data) => data.ok), "many at once");

await refused(call(key, "GET", "/v1/missing"), 404, "WALLET_NOT_FOUND");
await refused(call("", "GET", "/v1/wallets/wlt_1"), 401, "MISSING_API_KEY");
await refused(call("garbage", "GET", "/v1/wallets/wlt_1"), 401, "INVALID_API_KEY");
await refused(call(process.env.UNKNOWN_KEY, "GET", "/v1/wallets/wlt_1"), 401, "INVALID_API_KEY");
await refused(call(process.env.REVOKED_KEY, "POST", "/v1/transfers/p2p", { amount: 1 }), 401, "INVALID_API_KEY");

const late = await call(key, "GET", "/v1/slow", undefined, 300).then(() => undefined, (failure) => failure);
check(late?.name === "TimeoutError", `a client that gives up, but ${late}`);
check((await call(key, "GET", "/v1/wallets/wlt_1")).ok, "the next request after giving up");

console.log("all is well");
