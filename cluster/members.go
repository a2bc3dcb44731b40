package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// memberTime bounds a question about servers.
const memberTime = 25 * time.Second

// Servers asks the server on this machine for those of its cluster, by name.
func Servers(ctx context.Context, p *Place) ([]ServerInfo, error) {
	client, err := adminClient(p)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	return serversBy(ctx, client)
}

func serversBy(ctx context.Context, client kubernetes.Interface) ([]ServerInfo, error) {
	raw, err := client.Discovery().RESTClient().Get().AbsPath(serversPath).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the servers: %w", err)
	}
	var all []ServerInfo
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("list the servers: %w", err)
	}
	slices.SortFunc(all, func(a, b ServerInfo) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.URL, b.URL))
	})
	return all, nil
}

// RemoveServer takes a server out of its cluster for good: by name, or by URL one that never
// started. Its node object stays.
func RemoveServer(ctx context.Context, p *Place, name string) error {
	client, err := adminClient(p)
	if err != nil {
		return err
	}
	return removeBy(ctx, client, name)
}

func removeBy(ctx context.Context, client kubernetes.Interface, name string) error {
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	path := serversPath + "/" + strings.TrimPrefix(name, "https://")
	if err := client.Discovery().RESTClient().Delete().AbsPath(path).Do(ctx).Error(); err != nil {
		return fmt.Errorf("remove server %s: %w", name, err)
	}
	return nil
}

// Survives says how many of these servers may be lost from now on without the cluster standing
// still; -1: it stands still already.
func Survives(all []ServerInfo) int {
	voters, there := 0, 0
	for _, s := range all {
		if s.Learner {
			continue
		}
		voters++
		if s.Reachable {
			there++
		}
	}
	return there - (voters/2 + 1)
}

// leaveServers takes a server that is removed from this machine out of its cluster, while it runs:
// of two servers, the other could not without it.
func leaveServers(ctx context.Context, p *Place, report func(string)) {
	if runningPid(p, p.server()) == 0 {
		if p.joinedOthers() {
			report("! the server does not run: it stays a member of its cluster. Remove it at another server: proa member ls, proa member rm NAME")
		}
		return
	}
	all, err := Servers(ctx, p)
	if err != nil {
		if p.joinedOthers() {
			report(fmt.Sprintf("! the server stays a member of its cluster (%v). Remove it at another server: proa member ls, proa member rm NAME", err))
		}
		return
	}
	self, others := "", []ServerInfo(nil)
	for _, s := range all {
		switch {
		case s.Self:
			self = s.Name
		case !ownServer(p, s):
			others = append(others, s)
		}
	}
	if len(others) == 0 {
		return // the cluster ends
	}
	if err := leaveBy(ctx, p, self); err != nil {
		report(fmt.Sprintf("! the server stays a member of its cluster (%v). Remove it at another server: proa member rm %s", err, self))
		return
	}
	report(fmt.Sprintf("left the cluster; its node is still known there: proa kubectl delete node %s", self))
}

// joinedOthers says whether this machine's server was ever one of several.
func (p *Place) joinedOthers() bool { return (&ServerConfig{Place: p}).hasPeers() }

// ownServer says whether a server lives below this place, as those of "proa up --servers" do.
func ownServer(p *Place, s ServerInfo) bool {
	u, err := url.Parse(s.URL)
	return err == nil && strings.HasPrefix(u.Hostname(), strings.TrimSuffix(p.NodeCIDR().Masked().Addr().String(), "0")) && len(p.furthers()) > 0
}

// leaveBy asks the other servers first: this one's own answer may not arrive.
func leaveBy(ctx context.Context, p *Place, self string) error {
	client, err := adminClient(p)
	if err != nil {
		return err
	}
	slice, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil {
		return err
	}
	var errs []error
	for _, other := range othersFirst(p, slice) {
		client, err := adminClientAt(p, other)
		if err == nil {
			err = removeBy(ctx, client, self)
		}
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func othersFirst(p *Place, slice *discoveryv1.EndpointSlice) []string {
	own, err := serverOf(p.Kubeconfig())
	all := serversOf(slice)
	if err != nil {
		return all
	}
	own = strings.TrimPrefix(own, "https://")
	all = slices.DeleteFunc(all, func(s string) bool { return s == own })
	return append(all, own)
}

// adminClientAt is the administrator's client of another server.
func adminClientAt(p *Place, server string) (kubernetes.Interface, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", p.Kubeconfig())
	if err != nil {
		return nil, err
	}
	cfg = rest.CopyConfig(cfg)
	cfg.Host = "https://" + server
	return kubernetes.NewForConfig(cfg)
}

// servers shows them, and what may be lost. It says whether there is a majority.
func (r *Report) servers(ctx context.Context, client kubernetes.Interface) bool {
	all, err := serversBy(ctx, client)
	if err != nil {
		r.wrong("the servers cannot be asked: %v", err)
		return true
	}
	if len(all) < 2 {
		return true
	}
	for _, s := range all {
		r.member(s)
	}
	n := Survives(all)
	switch {
	case n > 0:
		r.add("availability", "ok", "the cluster survives the loss of %d of its %d servers", n, len(all))
	case n == 0:
		r.add("availability", "none", "the cluster stands still when one of its %d servers is lost", len(all))
	default:
		r.add("availability", "lost", "there is no majority of the servers: nothing can be written")
		r.wrong("there is no majority of the servers; bring one back, or go on with this one alone: proa down, proa up --reset-members")
	}
	return n >= 0
}

func (r *Report) member(s ServerInfo) {
	name, state, detail := s.Name, "reachable", s.URL
	if name == "" {
		name = "(not started)"
	}
	if s.API != "" {
		detail = "API " + s.API + ", etcd " + s.URL
	}
	switch {
	case !s.Reachable:
		state = "lost"
		r.wrong("server %s cannot be reached at %s; if it is gone for good: proa member rm %s", name, s.URL, name)
	case s.Leader:
		state = "leader"
	case s.Learner:
		state = "joining"
	}
	r.add("member "+name, state, "%s", detail)
}
