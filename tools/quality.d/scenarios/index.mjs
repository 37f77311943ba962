// All scenarios by name: {about, relays, run(rig, options) → {figures, checks, excuse | invalid}}.
import { jitter } from './jitter.mjs';
import { lastn } from './lastn.mjs';
import { layers } from './layers.mjs';
import { loss } from './loss.mjs';
import { neighbours } from './neighbours.mjs';
import { saves } from './saves.mjs';
import { share } from './share.mjs';
import { squeeze } from './squeeze.mjs';
import { sync } from './sync.mjs';

export const scenarios = { layers, squeeze, loss, neighbours, jitter, lastn, share, sync, saves };
