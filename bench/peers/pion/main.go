// A minimal forwarder on pion/webrtc: a peer connection per participant on one UDP port; each of the publisher's tracks
// is read and written to one local track that all subscribers of its room share.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/webrtc/v4"
	"golang.org/x/sys/unix"
)

type description struct {
	ID   int    `json:"id"`
	Room int    `json:"room,omitempty"`
	SDP  string `json:"sdp,omitempty"`
}

type request struct {
	Publish   *description `json:"publish"`
	Subscribe *description `json:"subscribe"`
	Answer    *description `json:"answer"`
}

func reply(kind string, value any) {
	line, err := json.Marshal(map[string]any{kind: value})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Println(string(line))
}

type room struct {
	// How many tracks its publisher has offered.
	offered int
	tracks  []*webrtc.TrackLocalStaticRTP
}

type hub struct {
	api         *webrtc.API
	connections map[int]*webrtc.PeerConnection
	mutex       sync.Mutex
	rooms       map[int]*room
}

func main() {
	core := flag.Int("core", 0, "core to run on")
	flag.Parse()
	if err := run(*core); err != nil {
		reply("missing", err.Error())
		os.Exit(1)
	}
}

// pin moves every thread that the runtime has started so far; new ones inherit it.
func pin(core int) error {
	var set unix.CPUSet
	set.Set(core)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		var id int
		if _, err := fmt.Sscan(task.Name(), &id); err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot run on core %d: %w", core, err)
		}
	}
	return nil
}

func run(core int) error {
	runtime.GOMAXPROCS(1)
	if err := pin(core); err != nil {
		return err
	}
	media := &webrtc.MediaEngine{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return err
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() && ip.To4() != nil })
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	// Others have their turns in between.
	settings.SetICETimeouts(10*time.Minute, 10*time.Minute, 2*time.Second)
	settings.SetICEUDPMux(webrtc.NewICEUDPMux(nil, socket))
	h := &hub{
		api:         webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithSettingEngine(settings)),
		connections: map[int]*webrtc.PeerConnection{},
		rooms:       map[int]*room{},
	}
	version := "pion/webrtc"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/pion/webrtc/v4" {
				version += " " + module.Version
			}
		}
	}
	reply("ready", map[string]any{"pids": []int{os.Getpid()}, "version": version})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		switch {
		case r.Publish != nil:
			h.answer(r.Publish.ID, "answer", func() (string, error) { return h.publish(*r.Publish) })
		case r.Subscribe != nil:
			h.answer(r.Subscribe.ID, "offer", func() (string, error) { return h.subscribe(*r.Subscribe) })
		case r.Answer != nil:
			h.answer(r.Answer.ID, "accepted", func() (string, error) { return "", h.accept(*r.Answer) })
		}
	}
	return lines.Err()
}

func (h *hub) answer(id int, kind string, handle func() (string, error)) {
	sdp, err := handle()
	if err != nil {
		reply("failed", map[string]any{"id": id, "error": err.Error()})
		return
	}
	reply(kind, description{ID: id, SDP: sdp})
}

func (h *hub) connect(id int) (*webrtc.PeerConnection, error) {
	connection, err := h.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	h.connections[id] = connection
	return connection, nil
}

// gathered is our description with all candidates in it.
func gathered(connection *webrtc.PeerConnection, d webrtc.SessionDescription) (string, error) {
	done := webrtc.GatheringCompletePromise(connection)
	if err := connection.SetLocalDescription(d); err != nil {
		return "", err
	}
	<-done
	return connection.LocalDescription().SDP, nil
}

func (h *hub) publish(d description) (string, error) {
	connection, err := h.connect(d.ID)
	if err != nil {
		return "", err
	}
	h.mutex.Lock()
	of := &room{offered: strings.Count(d.SDP, "m=audio") + strings.Count(d.SDP, "m=video")}
	h.rooms[d.Room] = of
	h.mutex.Unlock()
	connection.OnTrack(func(remote *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		local, err := webrtc.NewTrackLocalStaticRTP(remote.Codec().RTPCodecCapability, remote.Kind().String(), "bench")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		h.mutex.Lock()
		of.tracks = append(of.tracks, local)
		h.mutex.Unlock()
		for {
			packet, _, err := remote.ReadRTP()
			if err != nil {
				return
			}
			// A subscriber that left is not the others' concern.
			_ = local.WriteRTP(packet)
		}
	})
	if err := connection.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: d.SDP}); err != nil {
		return "", err
	}
	answer, err := connection.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	return gathered(connection, answer)
}

// published is what a room has, and whether that is all of it.
func (h *hub) published(number int) ([]*webrtc.TrackLocalStaticRTP, bool) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	of, ok := h.rooms[number]
	if !ok {
		return nil, false
	}
	return append([]*webrtc.TrackLocalStaticRTP(nil), of.tracks...), len(of.tracks) == of.offered
}

func (h *hub) subscribe(d description) (string, error) {
	// Tracks appear with their first packets.
	tracks, whole := h.published(d.Room)
	for i := 0; i < 500 && !whole; i++ {
		time.Sleep(10 * time.Millisecond)
		tracks, whole = h.published(d.Room)
	}
	if !whole {
		return "", fmt.Errorf("not all of room %d is there", d.Room)
	}
	connection, err := h.connect(d.ID)
	if err != nil {
		return "", err
	}
	for _, track := range tracks {
		sender, err := connection.AddTrack(track)
		if err != nil {
			return "", err
		}
		// RTCP must be read, or it piles up.
		go func() {
			buffer := make([]byte, 1500)
			for {
				if _, _, err := sender.Read(buffer); err != nil {
					return
				}
			}
		}()
	}
	offer, err := connection.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	return gathered(connection, offer)
}

func (h *hub) accept(d description) error {
	connection, ok := h.connections[d.ID]
	if !ok {
		return errors.New("nobody subscribed")
	}
	return connection.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: d.SDP})
}
