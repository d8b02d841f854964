// Compiles the contracts beside this file into artifacts.json (or the file
// named by the first argument). Run it through .ci/contracts, which fetches the
// pinned compiler into a temporary directory.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "artifacts.json");
const files = ["Common.sol", "DrainChannel.sol", "DrainChannelV2.sol", "Usdc.sol"];
const wanted = ["DrainChannel", "DrainChannelV2", "Usdc"];

const input = {
  language: "Solidity",
  sources: Object.fromEntries(
    files.map((file) => [file, { content: readFileSync(join(here, file), "utf8") }]),
  ),
  settings: {
    evmVersion: "paris",
    optimizer: { enabled: true, runs: 200 },
    // No source hash in the code: comments may change without new bytecode.
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: { "*": { "*": ["evm.deployedBytecode", "storageLayout"] } },
  },
};

const output = JSON.parse(solc.compile(JSON.stringify(input)));
const problems = output.errors ?? [];
for (const problem of problems) console.error(problem.formattedMessage);
if (problems.length > 0) process.exit(1);

const contracts = {};
for (const name of wanted) {
  const { evm, storageLayout } = output.contracts[`${name}.sol`][name];
  const offsets = Object.values(evm.deployedBytecode.immutableReferences ?? {})
    .flat()
    .map(({ start }) => start)
    .sort((a, b) => a - b);
  contracts[name] = {
    runtime: `0x${evm.deployedBytecode.object}`,
    // The one immutable is the domain separator: a 32-byte word at each offset.
    domainSeparatorOffsets: offsets,
    slots: Object.fromEntries(storageLayout.storage.map(({ label, slot }) => [label, Number(slot)])),
  };
}
const text = JSON.stringify({ compiler: solc.version(), contracts }, null, 2);
writeFileSync(target, `${text}\n`);
