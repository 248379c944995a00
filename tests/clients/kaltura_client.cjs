// Drives kaltura-client, which speaks JSON, as its users do. Certificates: NODE_EXTRA_CA_CERTS.
// That library is under the AGPL: it is for tests, in this process, and never shipped.
'use strict';
const { installed, serve } = require('./lines.cjs');
const kaltura = installed('kaltura-client');

let client;

const builder = ([service, action, ...args]) =>
  // null leaves an argument to the library.
  kaltura.services[service][action](...args.map((arg) => arg ?? undefined));

serve(
  {
    open(url) {
      const config = new kaltura.Configuration();
      config.serviceUrl = url;
      config.timeout = 20000;
      config.setLogger({ log() {} });
      client = new kaltura.Client(config);
    },
    ks: (ks) => void client.setKs(ks),
    partner: (partner) => void client.setPartnerId(partner),
    call: (...call) => builder(call).execute(client),
    multi(calls) {
      const all = new kaltura.MultiRequestBuilder();
      const refers = (arg) => (arg?.ref ? `{${arg.ref}}` : arg);
      for (const call of calls) all.add(builder(call.map(refers)));
      return all.execute(client);
    },
  },
  (error) => ({
    code: error?.code,
    args: error?.args,
    objectType: error?.objectType,
    status: error?.response?.status,
  }),
);
