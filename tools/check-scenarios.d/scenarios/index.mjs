// All scenarios.
import { scenarios as addressChange } from './address-change.mjs';
import { scenarios as bridges } from './bridges.mjs';
import { scenarios as gates } from './gates.mjs';
import { scenarios as keepers } from './keepers.mjs';
import { scenarios as large } from './large.mjs';
import { scenarios as leaks } from './leaks.mjs';
import { scenarios as links } from './links.mjs';
import { scenarios as meetings } from './meetings.mjs';
import { scenarios as peerToPeer } from './peer-to-peer.mjs';
import { scenarios as rooms } from './rooms.mjs';
import { scenarios as services } from './services.mjs';
import { scenarios as sources } from './sources.mjs';
import { scenarios as upgradeAll } from './upgrade-all.mjs';
import { scenarios as upgradeServices } from './upgrade-services.mjs';
import { scenarios as upgrades } from './upgrades.mjs';
import { scenarios as upgradesUnderStress } from './upgrades-under-stress.mjs';
import { scenarios as visitors } from './visitors.mjs';

/**
 * name → {stack: options of Stack, scripted: scripted participants instead of a browser, load: needs the program `ringbridge-load`,
 * install: Debian packages beside the usual ones, current: needs a current client library, namespace: needs a network namespace and so
 * root, root: needs root for something else, run(call) → figures in words}.
 */
export const scenarios = {
  ...addressChange, ...bridges, ...gates, ...keepers, ...large, ...leaks, ...links, ...meetings, ...peerToPeer, ...rooms, ...services, ...sources, ...upgradeAll, ...upgradeServices, ...upgrades, ...upgradesUnderStress, ...visitors,
};
