// LiveKit's own server as a peer. It is started beside this adaptor, which speaks to it by its WHIP endpoint: publishers
// as WHIP has it, subscribers by its extension that answers an offer to receive with named tracks.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/livekit/protocol/auth"
	"golang.org/x/sys/unix"
)

const (
	key    = "bench"
	secret = "only-on-loopback-and-only-for-this-run"
	// How long the server may take to start, or to know a publisher's tracks.
	patience = 15 * time.Second
)

// For one core: one UDP port, packets written in batches. What has no use here (TCP, external addresses) is off, the
// rest is as LiveKit has it.
const config = `
port: %d
bind_addresses: ["127.0.0.1"]
rtc:
  udp_port: %d
  tcp_port: 0
  use_external_ip: false
  node_ip: 127.0.0.1
  enable_loopback_candidate: true
  ips: {includes: ["127.0.0.1/32"]}
  batch_io: {batch_size: 128, max_flush_interval: 2ms}
keys: {%s: %s}
logging: {level: %s}
`

type description struct {
	ID   int    `json:"id"`
	Room int    `json:"room,omitempty"`
	SDP  string `json:"sdp,omitempty"`
}

type request struct {
	Publish   *description `json:"publish"`
	Subscribe *description `json:"subscribe"`
}

func reply(kind string, value any) {
	line, err := json.Marshal(map[string]any{kind: value})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Println(string(line))
}

func main() {
	core := flag.Int("core", 0, "core to run on")
	flag.Parse()
	// The server dies with the thread that started it.
	runtime.LockOSThread()
	if err := run(*core); err != nil {
		reply("missing", err.Error())
		os.Exit(1)
	}
}

// hub maps participants to requests to the server.
type hub struct {
	url string
	// Names of the published tracks by room and participant, as the server makes them up for WHIP.
	tracks map[int]map[string][]string
}

func run(core int) error {
	// Its children inherit it.
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("cannot run on core %d: %w", core, err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program := filepath.Join(filepath.Dir(self), "livekit-server")
	version, err := exec.Command(program, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s does not run (%w); run bench/peers/build", program, err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ports := [2]int{tcp.Addr().(*net.TCPAddr).Port, udp.LocalAddr().(*net.UDPAddr).Port}
	if err := errors.Join(tcp.Close(), udp.Close()); err != nil {
		return err
	}
	level := "error"
	if os.Getenv("PEER_LOG") != "" {
		level = "info"
	}
	server := exec.Command(program)
	server.Env = append(os.Environ(), "GOMAXPROCS=1",
		"LIVEKIT_CONFIG="+fmt.Sprintf(config, ports[0], ports[1], key, secret, level))
	server.Stdout, server.Stderr = os.Stderr, os.Stderr
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	defer func() { _ = server.Process.Kill() }()
	h := hub{url: fmt.Sprintf("http://127.0.0.1:%d", ports[0]), tracks: map[int]map[string][]string{}}
	if err := h.await(ended); err != nil {
		return err
	}
	reply("ready", map[string]any{
		"pids": []int{server.Process.Pid}, "version": strings.TrimSpace(string(version)), "subscribers_offer": true,
	})
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
			answer(r.Publish.ID, func() (string, error) { return h.publish(*r.Publish) })
		case r.Subscribe != nil:
			answer(r.Subscribe.ID, func() (string, error) { return h.subscribe(*r.Subscribe) })
		}
	}
	return lines.Err()
}

func answer(id int, handle func() (string, error)) {
	sdp, err := handle()
	if err != nil {
		reply("failed", map[string]any{"id": id, "error": err.Error()})
		return
	}
	reply("answer", description{ID: id, SDP: sdp})
}

// await returns once the server answers.
func (h *hub) await(ended chan error) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-ended:
			return fmt.Errorf("livekit-server ended (%v); set PEER_LOG=1 to see its log", err)
		default:
		}
		if response, err := http.Get(h.url); err == nil {
			response.Body.Close()
			return nil
		}
	}
	return errors.New("livekit-server does not answer; set PEER_LOG=1 to see its log")
}

func (h *hub) publish(d description) (string, error) {
	answer, err := h.whip(d, nil)
	if err != nil {
		return "", err
	}
	var names []string
	for kind, name := range map[string]string{"video": "synthesized-camera", "audio": "synthesized-microphone"} {
		if strings.Contains(d.SDP, "\nm="+kind+" ") {
			names = append(names, name)
		}
	}
	if h.tracks[d.Room] == nil {
		h.tracks[d.Room] = map[string][]string{}
	}
	h.tracks[d.Room][strconv.Itoa(d.ID)] = names
	return answer, nil
}

func (h *hub) subscribe(d description) (string, error) {
	if d.SDP == "" {
		return "", errors.New("a subscriber must offer")
	}
	return h.whip(d, h.tracks[d.Room])
}

// whip has the server answer an offer, with the named tracks in it.
func (h *hub) whip(d description, tracks map[string][]string) (string, error) {
	identity := strconv.Itoa(d.ID)
	grant := &auth.VideoGrant{RoomJoin: true, Room: fmt.Sprintf("bench-%d", d.Room)}
	token, err := auth.NewAccessToken(key, secret).SetVideoGrant(grant).SetIdentity(identity).ToJWT()
	if err != nil {
		return "", err
	}
	info, err := json.Marshal(map[string]any{"subscribedParticipantTrackNames": tracks})
	if err != nil {
		return "", err
	}
	post, err := http.NewRequest(http.MethodPost, h.url+"/whip/v1", strings.NewReader(d.SDP))
	if err != nil {
		return "", err
	}
	post.Header.Set("Content-Type", "application/sdp")
	post.Header.Set("Authorization", "Bearer "+token)
	post.Header.Set("X-LiveKit-ClientInfo", string(info))
	response, err := (&http.Client{Timeout: patience}).Do(post)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("livekit-server answers %s: %s", response.Status, body)
	}
	return string(body), nil
}
