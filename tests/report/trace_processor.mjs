// Perfetto's trace processor as Perfetto's page runs it, in WebAssembly in a worker, between standard input and output:
//     node trace_processor.mjs FOLDER
// FOLDER is that of a release of the page, with engine_bundle.js and its .wasm files.
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import vm from 'node:vm';

const read = (name) => readFileSync(join(process.argv[2], basename(String(name))));
const say = (...words) => process.stderr.write(`${words.join(' ')}\n`);

class XMLHttpRequest {
  open(method, name) {
    this.name = name;
  }

  send() {
    this.response = new Uint8Array(read(this.name)).buffer;
  }
}

// What the worker finds around it. Of Node itself it sees nothing, since it has no code for that.
const worker = {
  WorkerGlobalScope: class {}, importScripts() {}, location: { href: 'file:///' }, XMLHttpRequest, TextDecoder, performance, crypto, setTimeout,
  console: { log: say, warn: say, error: say },
};
worker.self = worker;
vm.createContext(worker);
vm.runInContext(read('engine_bundle.js').toString(), worker);

const port = { postMessage: (bytes) => process.stdout.write(bytes) };
worker.onmessage({ data: port });
const Bytes = vm.runInContext('Uint8Array', worker);
process.stdin.on('data', (chunk) => port.onmessage({ data: new Bytes(chunk) }));
