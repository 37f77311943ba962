// One XMPP connection and one conference of the client library, with what the page wants to know of them.

/** What a participant's screen is called beside the camera. */
export const screenOf = name => `${name}’s screen`;

/** A remote participant. */
class Remote {
  constructor(id, name) {
    this.id = id;
    this.name = name;
    this.role = 'none';
    this.tracks = {};
    this.muted = { audio: false, video: false };
    this.joinedAt = Date.now();
    this.firstFrameAt = undefined;
  }
}

export class Session extends EventTarget {
  /** Sessions so far. */
  static count = 0;

  /** `settings` come from the server, `options` from the page's address, `asked` is as in `want` and shared by sessions. */
  constructor(settings, options, asked) {
    super();
    this.settings = settings;
    this.options = options;
    this.asked = asked;
    this.number = ++Session.count;
    this.remotes = new Map();
    this.localTracks = [];
    this.state = 'connecting';
    this.role = 'none';
    this.p2p = false;
    this.bridgeMissing = false;
    this.speaker = undefined;
    /** Rooms of the meeting, as the server announces them: {jid, name, isMainRoom, participants: {address → {jid, role}}}. */
    this.rooms = [];
    this.p2pOptions = undefined;
    this.focusUserJid = undefined;
    this.joinedAt = undefined;
  }

  get id() { return this.conference?.myUserId(); }
  get ended() { return this.state === 'ended'; }

  #changed(name, detail = {}) {
    this.dispatchEvent(new CustomEvent('changed', { detail: { name, session: this.number, ...detail } }));
  }

  /** The connection or the conference is lost: the page starts another session. */
  #lost(reason) {
    if (this.state === 'lost' || this.ended) return;
    this.state = 'lost';
    this.#changed('lost', { reason });
    this.dispatchEvent(new CustomEvent('lost', { detail: reason }));
  }

  /** Not in the room yet: somebody has to let us in, or to give the password. */
  #wait(what) {
    this.state = what;
    this.#changed('waiting', { what });
  }

  /** Somebody ended this for us: there is nothing to come back to. */
  #over(what) {
    this.state = what;
    this.#changed('over', { what });
  }

  async start() {
    // On a visitor node everything has the same name behind the node's.
    const node = this.options.visitor;
    const there = address => node ? address.replace(/[^.@]+\.[^.]+(?=\/|$)/, `${node}.$&`) : address;
    const { websocketUrl } = this.settings;
    const [domain, muc, focus] = [this.settings.domain, this.settings.muc, this.settings.focus].map(there);
    const { JitsiMeetJS } = window;
    // Only the peer-to-peer connection gets an iceTransportPolicy: peer-connections.js distinguishes the two kinds by it.
    const p2p = this.p2pOptions = { enabled: this.options.p2p, stunServers: [], iceTransportPolicy: 'all', backToP2PDelay: 3 };
    this.localTracks = await this.#capture();
    if (this.ended) {
      this.#disposeTracks();
      return;
    }
    this.#changed('captured', { kinds: this.localTracks.map(track => track.getType()) });
    this.connection = new JitsiMeetJS.JitsiConnection(null, undefined, {
      hosts: { domain, muc, focus },
      focusUserJid: this.focusUserJid = focus.split('/')[0],
      serviceUrl: `${websocketUrl}?room=${encodeURIComponent(this.options.room)}`,
      enableWebsocketResume: true,
      p2p,
      // Only a current library knows these: SSRC rewriting, media sections by id, and the channel that the page was opened for.
      flags: { ssrcRewritingEnabled: this.options.current, rtpMidDemuxEnabled: this.options.current },
      bridgeChannel: { preferSctp: this.settings.channel !== 'websocket' },
    });
    const events = JitsiMeetJS.events.connection;
    this.connection.addEventListener(events.CONNECTION_ESTABLISHED, () => this.#join(p2p, this.options.address ?? this.options.room));
    this.connection.addEventListener(events.CONNECTION_FAILED, (error, message) => this.#lost(`${error} ${message ?? ''}`));
    this.connection.addEventListener(events.CONNECTION_DISCONNECTED, message => this.#lost(message || 'disconnected'));
    this.connection.connect();
  }

  async #capture(only) {
    const { width, height, fps } = this.options;
    const tracks = [];
    for (const device of ['audio', 'video']) {
      if ((this.options.send && this.options.send !== device) || (only && only !== device)) continue;
      try {
        tracks.push(...await window.JitsiMeetJS.createLocalTracks({
          devices: [device],
          constraints: {
            video: { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: fps, max: fps } },
          },
        }));
      } catch (error) {
        this.#changed('capture-failed', { device, error: error instanceof Error ? error.message : String(error) });
      }
    }
    return tracks;
  }

  /**
   * Leaves the room for another of the same meeting, by its address: a breakout room or the main one. The local tracks and the
   * connection stay.
   */
  async moveTo(address) {
    this.options.address = address;
    this.state = 'connecting';
    const left = this.conference;
    await left.leave('switch_room').catch(error => this.#changed('leave-failed', { error: String(error) }));
    this.remotes.clear();
    this.conference = undefined;
    this.#changed('moving', { address });
    this.#join(this.p2pOptions, address);
  }

  /** Enters a room, by its name or its address. */
  #join(p2p, address) {
    // A resumed stream says 'established' again.
    if (this.conference || this.ended) return;
    const { name, codec } = this.options;
    const [room, customDomain] = address.split('@');
    const libraryCodec = ['vp8', 'vp9', 'h264'].includes(codec) ? codec.toUpperCase() : undefined;
    const conference = this.connection.initJitsiConference(room.toLowerCase(), {
      p2p,
      ...(customDomain && { customDomain }),
      // Who was sent to a visitor node has asked already.
      ...(this.options.visitor && { disableFocus: true }),
      openBridgeChannel: 'websocket',
      enableNoAudioDetection: false,
      enableNoisyMicDetection: false,
      enableTalkWhileMuted: false,
      channelLastN: -1,
      // One codec for everybody in the page's own hands, see peer-connections.js; H.264 and AV1 are sent as one encoding.
      disableSimulcast: !(this.options.simulcast ?? (codec !== 'av1' && codec !== 'h264')),
      ...(this.options.shareFps && { desktopSharingFrameRate: { min: 5, max: this.options.shareFps } }),
      ...(this.options.current && codec && { videoQuality: { codecPreferenceOrder: [codec.toUpperCase()] } }),
      // To the packaged library it means something else.
      ...(this.options.current && { enableIceRestart: true }),
      ...(libraryCodec && !this.options.current && { videoQuality: { preferredCodec: libraryCodec, enforcePreferredCodec: true } }),
    });
    this.conference = conference;
    // The packaged library learns the focus's address with the answer to its request alone; today's knows it from focusUserJid.
    if (this.options.visitor) conference.room.moderator?.setFocusUserJid?.(this.focusUserJid);
    const on = (event, handler) => {
      const known = window.JitsiMeetJS.events.conference[event];
      if (known) conference.on(known, handler);
    };

    on('CONFERENCE_JOINED', () => {
      this.state = 'joined';
      this.joinedAt = Date.now();
      this.role = conference.getRole() ?? this.role;
      this.#changed('joined', { id: conference.myUserId() });
    });
    if (this.options.renew) this.#watchFocus(conference);
    on('CONFERENCE_LEFT', () => this.#changed('left'));
    on('CONFERENCE_FAILED', (error, ...details) => {
      this.#changed('conference-failed', { error, details: details.map(String) });
      if (error === 'conference.videobridgeNotAvailable') {
        this.bridgeMissing = true;
        this.#changed('bridge-missing');
      } else if (['conference.focusDisconnected', 'conference.offerAnswerFailed'].includes(error)) {
        // The library tries again by itself.
      } else if (error === 'conference.connectionError.membersOnly') {
        // The library says it for each of its attempts.
        if (this.state === 'lobby') return;
        this.#wait('lobby');
        conference.joinLobby(name).catch(reason => this.#lost(String(reason)));
      } else if (error === 'conference.passwordRequired') {
        this.#wait('password');
      } else if (error === 'conference.connectionError.accessDenied') {
        this.#over('denied');
      } else if (error === 'conference.destroyed') {
        this.#over('ended for all');
      } else {
        this.#lost(error);
      }
    });
    on('CONFERENCE_ERROR', (error, ...details) => this.#changed('conference-error', { error, details: details.map(String) }));
    on('KICKED', () => this.#over('kicked'));
    on('LOBBY_USER_JOINED', (id, shown) => this.#changed('lobby-joined', { id, shown }));
    on('LOBBY_USER_LEFT', id => this.#changed('lobby-left', { id }));
    on('CONNECTION_INTERRUPTED', () => this.#changed('media-interrupted'));
    on('CONNECTION_RESTORED', () => this.#changed('media-restored'));
    on('CONNECTION_ESTABLISHED', () => this.#changed('media-established'));
    on('_MEDIA_SESSION_STARTED', session => {
      if (!session?.isP2P) this.bridgeMissing = false;
      this.#changed('media-session', { p2p: Boolean(session?.isP2P) });
    });
    on('DATA_CHANNEL_OPENED', () => {
      this.#sendAsked();
      this.conference.setSenderVideoConstraint(2160)?.catch?.(() => {});
      this.#changed('bridge-channel');
    });
    on('P2P_STATUS', (_, direct) => {
      this.p2p = direct;
      this.#changed('p2p', { p2p: direct });
    });
    on('USER_JOINED', (id, user) => {
      this.remotes.set(id, new Remote(id, user.getDisplayName() || id));
      this.remotes.get(id).role = user.getRole();
      this.#changed('user-joined', { id });
    });
    on('USER_LEFT', id => {
      this.remotes.delete(id);
      this.#changed('user-left', { id });
    });
    on('USER_ROLE_CHANGED', (id, role) => {
      if (id === conference.myUserId()) this.role = role;
      else if (this.remotes.has(id)) this.remotes.get(id).role = role;
      this.#changed('role', { id, role });
    });
    on('DISPLAY_NAME_CHANGED', (id, shown) => {
      if (this.remotes.has(id)) this.remotes.get(id).name = shown || id;
      this.#sendAsked();
      this.#changed('name', { id });
    });
    on('TRACK_ADDED', track => {
      if (track.isLocal()) return;
      const remote = this.#remote(track.getParticipantId());
      const kind = this.#kind(track);
      remote.tracks[kind] = track;
      remote.muted[kind] = track.isMuted();
      this.bridgeMissing = false;
      this.#sendAsked();
      this.#changed('track-added', { id: remote.id, kind });
    });
    on('TRACK_REMOVED', track => {
      if (track.isLocal()) return;
      const remote = this.remotes.get(track.getParticipantId());
      for (const [kind, one] of Object.entries(remote?.tracks ?? {})) if (one === track) delete remote.tracks[kind];
      this.#changed('track-removed', { id: track.getParticipantId(), kind: this.#kind(track) });
    });
    on('TRACK_MUTE_CHANGED', track => {
      if (!track.isLocal()) {
        const remote = this.remotes.get(track.getParticipantId());
        if (remote) remote.muted[this.#kind(track)] = track.isMuted();
      }
      this.#changed('mute');
    });
    on('BREAKOUT_ROOMS_UPDATED', ({ rooms }) => {
      this.rooms = Object.values(rooms);
      this.#changed('breakout-rooms');
    });
    on('BREAKOUT_ROOMS_MOVE_TO_ROOM', to => this.moveTo(to));
    on('DOMINANT_SPEAKER_CHANGED', id => {
      this.speaker = id;
      this.#changed('speaker', { id });
    });

    conference.setDisplayName(name);
    for (const track of this.localTracks) {
      conference.addTrack(track).catch(error => this.#changed('add-track-failed', { error: String(error) }));
    }
    conference.join();
  }

  /** A call whose focus left begins anew, as in Jitsi Meet. The packaged library fails to say that it left. */
  #watchFocus(conference) {
    let seen = false;
    const watch = setInterval(() => {
      if (this.conference !== conference || this.ended || this.state === 'lost') return clearInterval(watch);
      // Who is on the way to another room sees nobody here any more: that is no loss.
      if (this.state !== 'joined') return;
      const there = Object.values(conference.room?.members ?? {}).some(one => one.isFocus);
      if (seen && !there) this.#lost('the focus left');
      seen = there;
    }, 250);
  }

  /** Whether a remote track is 'audio', 'video' or, of clients that send it beside the camera, 'screen'. */
  #kind(track) {
    return this.options.current && track.getVideoType?.() === 'desktop' ? 'screen' : track.getType();
  }

  #remote(id) {
    if (!this.remotes.has(id)) {
      this.remotes.set(id, new Remote(id, this.conference.getParticipantById(id)?.getDisplayName() || id));
    }
    return this.remotes.get(id);
  }

  /**
   * What to ask the bridge for: `lastN`, `stage` (names) at `stageHeight`, `height` of everybody else, `heights` by
   * name. Absent fields keep their value; without a stage the first participant is preferred.
   */
  want(asked) {
    Object.assign(this.asked, asked);
    this.#sendAsked();
  }

  #sendAsked() {
    const { lastN, stage, height, stageHeight, heights } = this.asked;
    const byName = new Map([...this.named()].map(([name, { id }]) => [name, id]));
    // A current library asks for sources, the packaged one for endpoints.
    const video = id => this.options.current ? `${id}-v0` : id;
    const screen = name => this.remotes.get(byName.get(name))?.tracks.screen?.getSourceName();
    /** What is wanted by a name: a camera, or a screen as `screenOf` names it. */
    const source = name => {
      const sharer = [...byName.keys()].find(one => screenOf(one) === name);
      return sharer !== undefined ? screen(sharer) : byName.has(name) ? video(byName.get(name)) : undefined;
    };
    const onStage = (stage ?? [...byName.keys()].slice(0, 1)).map(source).filter(Boolean);
    const constraints = {};
    if (stage) for (const one of onStage) constraints[one] = { maxHeight: stageHeight };
    for (const [name, maxHeight] of Object.entries(heights)) {
      if (source(name)) constraints[source(name)] = { maxHeight };
    }
    const kind = this.options.current ? 'Sources' : 'Endpoints';
    try {
      this.conference?.setReceiverConstraints({
        lastN,
        [`selected${kind}`]: [],
        [`onStage${kind}`]: onStage,
        defaultConstraints: { maxHeight: height },
        constraints,
      });
    } catch (error) {
      this.#changed('constraints-failed', { error: String(error) });
    }
  }

  /** Shares the screen: beside the camera, or instead of it with the packaged library, which knows one source of video. */
  async shareScreen() {
    const [screen] = await window.JitsiMeetJS.createLocalTracks({ devices: ['desktop'] });
    const replaced = this.options.current ? undefined : this.localTrack('video');
    if (replaced) await this.conference.replaceTrack(replaced, screen);
    else await this.conference.addTrack(screen);
    this.localTracks = [...this.localTracks.filter(track => track !== replaced), screen];
    await replaced?.dispose();
    this.#changed('screen-shared');
  }

  get screen() { return this.localTracks.find(track => track.getVideoType?.() === 'desktop'); }

  /** Ends what `shareScreen` began; where the screen took the camera's place, the camera comes back. */
  async stopScreen() {
    const { screen } = this;
    if (!screen) return;
    const camera = this.options.current ? undefined : (await this.#capture('video'))[0];
    if (camera) await this.conference.replaceTrack(screen, camera);
    else await this.conference.removeTrack(screen);
    this.localTracks = [...this.localTracks.filter(track => track !== screen), ...(camera ? [camera] : [])];
    await screen.dispose();
    this.#changed('screen-stopped');
  }

  /** Remote participants under names that differ: of namesakes the later ones carry their id. */
  named() {
    const names = new Map();
    for (const remote of this.remotes.values()) {
      names.set(names.has(remote.name) ? `${remote.name} ${remote.id}` : remote.name, remote);
    }
    return names;
  }

  /** The microphone, or the camera or what stands in for it. */
  localTrack(kind) { return this.localTracks.find(track => track.getType() === kind); }

  /** Mutes or unmutes 'audio' or 'video'. */
  async setMuted(kind, muted) {
    const track = this.localTrack(kind);
    if (track && track.isMuted() !== muted) await (muted ? track.mute() : track.unmute());
  }

  #disposeTracks() { return Promise.all(this.localTracks.map(track => track.dispose().catch(() => {}))); }

  /** Leaves for good and frees what it used. */
  async end() {
    if (this.ended) return;
    const reachable = this.state === 'joined';
    this.state = 'ended';
    // A server that is away must not hold this up.
    const patience = new Promise(resolve => setTimeout(resolve, reachable ? 3000 : 200));
    const quiet = promise => Promise.resolve(promise).catch(() => {});
    await Promise.race([patience, quiet((async () => this.conference?.leave())())]);
    await quiet(this.#disposeTracks());
    await Promise.race([patience, quiet((async () => this.connection?.disconnect())())]);
  }
}
