// Drives the two modules of versal-sdk that talk to the API. Certificates: NODE_EXTRA_CA_CERTS.
'use strict';
const { installed, serve } = require('./lines.cjs');
installed('coffee-script/register');
const signin = installed('versal-sdk/src/signin');
const restapi = installed('versal-sdk/src/restapi');

const promised = (start) =>
  new Promise((resolve, reject) =>
    start((error, value) => (error ? reject(error) : resolve(value))),
  );

serve(
  {
    /** `authUrl`, `email`, `password` and whatever else; gives the session id. */
    signin: (options) => promised((done) => signin(options, done)),
    /** `apiUrl`, `sessionId`. */
    user: (options) => promised((done) => restapi.getUserDetails(options, done)),
    gadgets: (catalog, options) =>
      promised((done) => restapi.getGadgetCatalog(catalog, options, done)),
  },
  () => ({}),
);
