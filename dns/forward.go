package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	upstreamTimeout = 2 * time.Second // for each server asked
	maxUpstreams    = 3               // as resolv.conf
	maxForeign      = 8192            // foreign answers kept
	longestTTL      = 30 * time.Second
	confCheck       = time.Second // resolv.conf is looked at when a query comes this long after the last look
)

// errBadAnswer is an answer to something that was not asked.
var errBadAnswer = errors.New("answer does not match the query")

// forwarder asks the machine's own resolvers. With none it says at once that a name does
// not exist: a quick no is what clients with search domains need.
type forwarder struct {
	path string
	own  []netip.Addr // ours: never asked, that would be a loop
	log  *slog.Logger

	mu      sync.Mutex
	looked  time.Time
	changed time.Time
	servers []netip.AddrPort
	kept    map[string]keptAnswer
}

type keptAnswer struct {
	packet []byte
	until  time.Time
}

// resolve gives an answer packet for the query: from upstream, NXDOMAIN with no upstream,
// SERVFAIL when none answers.
func (f *forwarder) resolve(ctx context.Context, query []byte, m *dns.Msg, udp bool) []byte {
	servers := f.upstreams()
	if len(servers) == 0 {
		return f.failed(m, dns.RcodeNameError, udp)
	}
	key := fmt.Sprint(udp, string(query[2:]))
	if kept := f.find(key); kept != nil {
		return withID(kept, query)
	}
	for _, s := range servers {
		answer, err := exchange(ctx, s, query, udp)
		if err != nil {
			f.log.Debug("resolver does not answer", "server", s, "error", err)
			continue
		}
		f.keep(key, answer)
		return withID(answer, query)
	}
	return f.failed(m, dns.RcodeServerFailure, udp)
}

func (f *forwarder) failed(m *dns.Msg, code int, udp bool) []byte {
	reply := new(dns.Msg)
	reply.SetRcode(m, code)
	reply.RecursionAvailable = true
	return finish(m, reply, udp)
}

func withID(packet, query []byte) []byte {
	out := slices.Clone(packet)
	copy(out[:2], query[:2])
	return out
}

func (f *forwarder) find(key string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, ok := f.kept[key]
	if !ok || time.Now().After(k.until) {
		return nil
	}
	return k.packet
}

// keep keeps good and NXDOMAIN answers for a while.
func (f *forwarder) keep(key string, packet []byte) {
	var m dns.Msg
	if len(key) > maxKeyed || m.Unpack(packet) != nil || m.Truncated || (m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError) {
		return
	}
	ttl := longestTTL
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
	}
	if ttl <= 0 || len(m.Answer)+len(m.Ns) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.kept == nil || len(f.kept) >= maxForeign {
		f.kept = map[string]keptAnswer{}
	}
	f.kept[key] = keptAnswer{packet, time.Now().Add(ttl)}
}

// upstreams reads resolv.conf when it changed.
func (f *forwarder) upstreams() []netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) < confCheck || f.path == "" {
		return f.servers
	}
	f.looked = time.Now()
	info, err := os.Stat(f.path)
	if err != nil {
		f.servers = nil
		return nil
	}
	if info.ModTime().Equal(f.changed) {
		return f.servers
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		f.log.Warn("resolvers unknown", "error", err)
		return f.servers
	}
	f.changed, f.servers = info.ModTime(), f.parse(string(b))
	return f.servers
}

// parse takes the name servers of a resolv.conf.
func (f *forwarder) parse(conf string) []netip.AddrPort {
	var out []netip.AddrPort
	for line := range strings.Lines(conf) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		ip, err := netip.ParseAddr(fields[1])
		if err != nil || len(out) == maxUpstreams {
			continue
		}
		if slices.Contains(f.own, ip) {
			f.log.Warn("a resolver of this machine is the cluster DNS itself: not asked", "server", ip, "file", f.path)
			continue
		}
		out = append(out, netip.AddrPortFrom(ip, 53))
	}
	return out
}

// exchange asks one server with an ID and a port that cannot be guessed.
func exchange(ctx context.Context, server netip.AddrPort, query []byte, udp bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	protocol := "tcp"
	if udp {
		protocol = "udp"
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, protocol, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	ask := slices.Clone(query)
	binary.BigEndian.PutUint16(ask, uint16(rand.Uint32()))
	if !udp {
		return exchangeTCP(conn, ask)
	}
	if _, err := conn.Write(ask); err != nil {
		return nil, err
	}
	b := make([]byte, 4096)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return nil, err
		}
		if matches(ask, b[:n]) { // else forged or late: wait on
			return b[:n], nil
		}
	}
}

func exchangeTCP(conn net.Conn, ask []byte) ([]byte, error) {
	if err := writeTCP(conn, ask); err != nil {
		return nil, err
	}
	b, err := readTCP(conn)
	if err == nil && !matches(ask, b) {
		err = errBadAnswer
	}
	return b, err
}

// matches compares ID and question.
func matches(ask, answer []byte) bool {
	var a, b dns.Msg
	if len(answer) < 12 || answer[0] != ask[0] || answer[1] != ask[1] || answer[2]&0x80 == 0 {
		return false
	}
	if a.Unpack(ask) != nil || b.Unpack(answer) != nil || len(a.Question) != 1 || len(b.Question) != 1 {
		return false
	}
	p, q := a.Question[0], b.Question[0]
	return strings.EqualFold(p.Name, q.Name) && p.Qtype == q.Qtype && p.Qclass == q.Qclass
}

func readTCP(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeTCP(w io.Writer, packet []byte) error {
	if len(packet) > dns.MaxMsgSize-1 {
		return fmt.Errorf("answer of %d bytes is too long", len(packet))
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...))
	return err
}
