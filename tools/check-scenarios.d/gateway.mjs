// A scripted Jigasi: where it is found, and what it says.

/** The brewery of Jigasis. */
export const gateways = 'jigasibrewery@internal.auth.meet.test';

/** What a stack with a Jigasi has. */
export const gatewayStack = { accounts: ['jigasi'], environment: { RINGBRIDGE_JIGASI_BREWERY: gateways } };

/** Its presence, with so many calls. */
export const gatewayStatus = participants => `<stats xmlns='http://jitsi.org/protocol/colibri'><stat name='supports_sip' value='true'/>`
  + `<stat name='participants' value='${participants}'/></stats>`;

/** Its answer to an order that it carries out. */
export const calling = `<ref xmlns='urn:xmpp:rayo:1' uri='xmpp:call-1@gateway.test'/>`;
