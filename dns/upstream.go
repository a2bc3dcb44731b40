package dns

import (
	"bufio"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// upstream asks the host's resolvers for names that are not the cluster's.
type upstream struct {
	file  string
	own   []netip.Addr // never asked: that would go in circles
	slots chan struct{}

	mu      sync.Mutex
	read    time.Time // the file's time when it was read
	servers []string
}

// maxAsking bounds the questions that wait for other resolvers.
const maxAsking = 512

// askTimeout of one resolver.
const askTimeout = 2 * time.Second

func newUpstream(file string, own []netip.Addr) *upstream {
	return &upstream{file: file, own: own, slots: make(chan struct{}, maxAsking)}
}

// ask gives the first resolver's answer. Without one the name does not exist: a cluster
// without a way out must not make its pods wait.
func (u *upstream) ask(network string, r, fallback *dns.Msg) *dns.Msg {
	servers := u.current()
	if len(servers) == 0 {
		fallback.Rcode = dns.RcodeNameError
		return fallback
	}
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	default:
		fallback.Rcode = dns.RcodeServerFailure
		return fallback
	}
	client := &dns.Client{Net: network, Timeout: askTimeout}
	for _, server := range servers[:min(2, len(servers))] {
		answer, _, err := client.Exchange(r, server)
		if err == nil {
			answer.Id = r.Id
			return answer
		}
	}
	fallback.Rcode = dns.RcodeServerFailure
	return fallback
}

// current reads the resolvers again when their file changed.
func (u *upstream) current() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(u.file)
	if err != nil {
		return nil
	}
	if info.ModTime().Equal(u.read) {
		return u.servers
	}
	f, err := os.Open(u.file)
	if err != nil {
		return nil
	}
	defer f.Close()
	u.servers, u.read = nil, info.ModTime()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && !slices.Contains(u.own, a) {
			u.servers = append(u.servers, net.JoinHostPort(fields[1], "53"))
		}
	}
	return u.servers
}
