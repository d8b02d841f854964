// A port in front of a server that adds an agent's token to every request, for clients that cannot send one. Nothing else is
// changed: not the path, not Host or Origin, not a byte of a body or of a stream.
//
//     node bearer.mjs        prints its own address, then reads two lines: the server's address and the token
import { createServer, request } from "node:http";
import { createInterface } from "node:readline";

let upstream;
let authorization;

const server = createServer((asked, answered) => {
  const { hostname, port } = upstream;
  const headers = [...asked.rawHeaders, "Authorization", authorization];
  const passed = request({ hostname, port, method: asked.method, path: asked.url, headers }, (answer) => {
    answered.writeHead(answer.statusCode, answer.rawHeaders);
    answered.flushHeaders();
    answer.pipe(answered);
  });
  passed.on("error", () => answered.destroy());
  answered.on("close", () => passed.destroy());
  asked.pipe(passed);
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
upstream = new URL((await lines.next()).value);
authorization = `Bearer ${(await lines.next()).value}`;
