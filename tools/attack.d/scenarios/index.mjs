// All attacks by name, in the order in which they are played.
import { scenarios as channel } from './channel.mjs';
import { scenarios as doors } from './doors.mjs';
import { scenarios as faults } from './faults.mjs';
import { scenarios as features } from './features.mjs';
import { scenarios as guests } from './guests.mjs';
import { scenarios as participants } from './participants.mjs';
import { scenarios as reflection } from './reflection.mjs';
import { scenarios as relays } from './relays.mjs';
import { scenarios as rest } from './rest.mjs';
import { scenarios as rooms } from './rooms.mjs';
import { scenarios as sources } from './sources.mjs';

/**
 * name → {guards, run(rig, opened) → {figures, checks}, quick, limits, timeout, aftermath, expectedErrors, newcomer}.
 * With `open() → options of Rig.open` a scenario has a stack of its own, and `closed()` cleans up; `skip()` says why it cannot run.
 */
export const scenarios = { ...guests, ...rooms, ...features, ...rest, ...doors, ...reflection, ...relays, ...participants, ...sources, ...channel, ...faults };
