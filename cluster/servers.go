package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/proa-dev/proa/access"
	"github.com/proa-dev/proa/internal/presence"
	"github.com/proa-dev/proa/store"
)

// Paths of the API about the servers: for administrators, and the one at which a machine with a
// server's token joins.
const (
	serversPath = "/proa/servers"
	joinPath    = "/proa/join"
)

// Bounds of joining: what is sent, what is answered, and how long the store may take.
const (
	maxJoinBody   = 8 << 10
	maxJoinAnswer = 1 << 20
	addTimeout    = 20 * time.Second
	dialTimeout   = time.Second
)

// joinRole lets those with a server's token join.
const joinRole = "system:proa:server-joiner"

func joinRules() (*rbacv1.ClusterRole, *rbacv1.ClusterRoleBinding) {
	return &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: joinRole},
			Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get", "post"}, NonResourceURLs: []string{joinPath}}},
		}, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: joinRole},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: joinRole},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: access.ServersGroup}},
		}
}

// joinRequest is who wants to join, joinAnswer what he gets: all secrets of the cluster.
type (
	joinRequest struct {
		Name    string `json:"name"`
		PeerURL string `json:"peerURL"`
		Version string `json:"version"`
	}
	joinAnswer struct {
		Files      map[string][]byte `json:"files"`                // of the pki folder
		Encryption []byte            `json:"encryption,omitempty"` // the keys that seal objects
		Members    map[string]string `json:"members,omitempty"`
	}
)

// bearerKey is where a request's context keeps the token that it was sent with.
type bearerKey struct{}

// keepBearer lets joining see the token of its request itself: authentication takes it away, and
// whoever else may be allowed to the path (by impersonation, a proxy, a role of all paths) has none.
func keepBearer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == joinPath && r.TLS != nil {
			r = r.WithContext(context.WithValue(r.Context(), bearerKey{}, access.BearerToken(r.Header.Get("Authorization"))))
		}
		next.ServeHTTP(w, r)
	})
}

// joiner refuses who does not show a server's token himself.
func (c *controlPlane) joiner(r *http.Request) (string, error) {
	token, _ := r.Context().Value(bearerKey{}).(string)
	if token == "" {
		return "", errors.New("joining needs the token of 'proa token create --server' in the request itself")
	}
	for name := range r.Header {
		if strings.HasPrefix(strings.ToLower(name), "impersonate-") {
			return "", errors.New("nobody joins in the name of another")
		}
	}
	user, err := c.identity.Tokens.Bootstrap(token)
	if err != nil {
		return "", err
	}
	if !slices.Contains(user.Groups, access.ServersGroup) {
		return "", errors.New("this token is for nodes; 'proa token create --server' makes one for servers")
	}
	return user.Name, nil
}

// serveJoin tells a new server what it must be like (GET), and lets it in (POST).
func (c *controlPlane) serveJoin(w http.ResponseWriter, r *http.Request) {
	user, err := c.joiner(r)
	if err != nil {
		answerJSON(w, http.StatusForbidden, failure(http.StatusForbidden, metav1.StatusReasonForbidden, err))
		return
	}
	switch r.Method {
	case http.MethodGet:
		settings, err := c.cfg.shares()
		if err != nil {
			c.serversFailed(w, http.StatusInternalServerError, "tell the settings", err)
			return
		}
		answerJSON(w, http.StatusOK, settings)
	case http.MethodPost:
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJoinBody))
		var ask joinRequest
		if err == nil {
			err = json.Unmarshal(raw, &ask)
		}
		if err == nil {
			err = ask.check()
		}
		if err != nil {
			c.serversFailed(w, http.StatusBadRequest, "read who joins", err)
			return
		}
		answer, code, err := c.letIn(r.Context(), ask)
		if err != nil {
			c.serversFailed(w, code, "let server "+ask.Name+" in", err)
			return
		}
		c.log.Info("a server joins: it was given the cluster's keys", "server", ask.Name, "url", ask.PeerURL, "token", user)
		answerJSON(w, http.StatusOK, answer)
	default:
		w.Header().Set("Allow", "GET, POST")
		c.serversFailed(w, http.StatusMethodNotAllowed, "join", errors.New("GET and POST only"))
	}
}

func (c *controlPlane) serversFailed(w http.ResponseWriter, code int, what string, err error) {
	reasons := map[int]metav1.StatusReason{
		http.StatusBadRequest: metav1.StatusReasonBadRequest, http.StatusConflict: metav1.StatusReasonConflict,
		http.StatusMethodNotAllowed: metav1.StatusReasonMethodNotAllowed, http.StatusServiceUnavailable: metav1.StatusReasonServiceUnavailable,
		http.StatusInternalServerError: metav1.StatusReasonInternalError, http.StatusNotFound: metav1.StatusReasonNotFound,
	}
	err = fmt.Errorf("%s: %w", what, err)
	c.log.Warn("a request about servers failed", "err", err)
	answerJSON(w, code, failure(int32(code), reasons[code], err))
}

func (a *joinRequest) check() error {
	if problems := validation.IsDNS1123Subdomain(a.Name); len(problems) > 0 {
		return fmt.Errorf("name %q: %s", a.Name, strings.Join(problems, "; "))
	}
	u, err := url.Parse(a.PeerURL)
	if err == nil {
		_, err = netip.ParseAddrPort(u.Host)
	}
	if err != nil || u.Scheme != "https" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("peerURL %q: must be https://ADDRESS:PORT", a.PeerURL)
	}
	return sameMinor(a.Version, ProaVersion)
}

// letIn makes the new server a member and gives it what servers share. Tried again by the same
// server it gives the same.
func (c *controlPlane) letIn(ctx context.Context, ask joinRequest) (*joinAnswer, int, error) {
	ctx, cancel := context.WithTimeout(ctx, addTimeout)
	defer cancel()
	if ask.Name == c.cfg.NodeConfig.Name {
		return nil, http.StatusConflict, errors.New("this server has the same name; give the new one another --node-name")
	}
	if err := c.startPeers(); err != nil {
		return nil, http.StatusInternalServerError, err
	}
	answer := &joinAnswer{}
	var err error
	if answer.Files, err = c.pki.Shared(); err != nil {
		return nil, http.StatusInternalServerError, err
	}
	if c.cfg.EncryptionConfig == "" {
		if answer.Encryption, err = os.ReadFile(c.cfg.ownKeys()); err != nil {
			return nil, http.StatusInternalServerError, fmt.Errorf("read the keys that seal objects: %w", err)
		}
	}
	// Before there is another lease, this server's must be there: the loop would lead to the other alone.
	if err := c.present.renew(ctx); err != nil {
		return nil, http.StatusServiceUnavailable, err
	}
	c.present.begin()
	if len(c.cfg.EtcdServers) > 0 {
		return answer, http.StatusOK, nil
	}
	members, err := c.store.Members(ctx)
	if err != nil {
		return nil, http.StatusServiceUnavailable, err
	}
	for _, m := range members {
		if m.Name == ask.Name {
			return nil, http.StatusConflict, fmt.Errorf("there is a server of this name (%s); remove it first ('proa member rm %s'), or give the new one another --node-name", m.URL, m.Name)
		}
	}
	if one := joiningNow(members, ask.PeerURL); one != "" {
		return nil, http.StatusServiceUnavailable, fmt.Errorf("another server (%s) joins at present; one that never started goes with 'proa member rm %s'", one, one)
	}
	if answer.Members, err = c.store.AddMember(ctx, ask.Name, ask.PeerURL); err != nil {
		return nil, http.StatusServiceUnavailable, err
	}
	return answer, http.StatusOK, nil
}

// joiningNow is the URL of another member that has not caught up: etcd takes one at a time.
func joiningNow(members []store.Member, url string) string {
	for _, m := range members {
		if m.Learner && m.URL != url {
			return m.URL
		}
	}
	return ""
}

// ServerInfo is one server of a cluster.
type ServerInfo struct {
	Name      string `json:"name"` // empty: it has not started yet
	URL       string `json:"url,omitempty"`
	API       string `json:"api,omitempty"` // address and port, of a server that lives
	Leader    bool   `json:"leader,omitempty"`
	Learner   bool   `json:"learner,omitempty"`
	Self      bool   `json:"self,omitempty"`
	Reachable bool   `json:"reachable"`
}

// serveServers lists the servers (GET) and removes one (DELETE .../NAME).
func (c *controlPlane) serveServers(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, serversPath), "/")
	switch {
	case r.Method == http.MethodGet && name == "":
		all, err := c.servers(r.Context())
		if err != nil {
			c.serversFailed(w, http.StatusServiceUnavailable, "list the servers", err)
			return
		}
		answerJSON(w, http.StatusOK, all)
	case r.Method == http.MethodDelete && name != "":
		if strings.Contains(name, ":") { // one that never started has no name
			name = "https://" + name
		}
		ctx, cancel := context.WithTimeout(r.Context(), addTimeout)
		defer cancel()
		if code, err := c.removeServer(ctx, name); err != nil {
			c.serversFailed(w, code, "remove server "+name, err)
			return
		}
		c.log.Info("a server was removed", "server", name)
		answerJSON(w, http.StatusOK, &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess})
	default:
		http.NotFound(w, r)
	}
}

// removeServer takes a server out of etcd and of the endpoints.
func (c *controlPlane) removeServer(ctx context.Context, name string) (int, error) {
	if len(c.cfg.EtcdServers) == 0 {
		members, err := c.store.Members(ctx)
		if err != nil {
			return http.StatusServiceUnavailable, err
		}
		known := func(name string) bool {
			for _, m := range members {
				if m.Name == name || m.Name == "" && m.URL == name {
					return true
				}
			}
			return false
		}
		if !known(name) {
			return http.StatusNotFound, errors.New("there is no server of this name")
		}
		if err := c.store.RemoveMember(ctx, name); err != nil {
			return http.StatusConflict, err
		}
	}
	if err := c.present.leave(ctx, name); err != nil {
		c.log.Warn("the endpoints of the API will follow by themselves", "err", err)
	}
	return http.StatusOK, nil
}

// servers are the members of etcd with what their leases tell; of an etcd outside, the leases alone.
func (c *controlPlane) servers(ctx context.Context) ([]ServerInfo, error) {
	leases, err := c.present.client.CoordinationV1().Leases(presence.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: presence.Label + "=" + presence.Value, ResourceVersion: "0", // as far as it is known here: there may be no majority to ask
	})
	if err != nil {
		return nil, err
	}
	api := map[string]string{}
	for i := range leases.Items {
		l := &leases.Items[i]
		if at, ok := presence.AddressOf(l); ok && l.Spec.HolderIdentity != nil {
			api[*l.Spec.HolderIdentity] = at.String()
		}
	}
	self := c.cfg.NodeConfig.Name
	if len(c.cfg.EtcdServers) > 0 {
		var all []ServerInfo
		for name, at := range api {
			all = append(all, ServerInfo{Name: name, API: at, Self: name == self, Leader: name == self && !c.follows.Load(), Reachable: name == self || answers(ctx, at)})
		}
		slices.SortFunc(all, func(a, b ServerInfo) int { return strings.Compare(a.Name, b.Name) })
		return all, nil
	}
	members, err := c.store.Members(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]ServerInfo, len(members))
	var asked sync.WaitGroup
	for i, m := range members {
		all[i] = ServerInfo{Name: m.Name, URL: m.URL, API: api[m.Name], Leader: m.Leader, Learner: m.Learner, Self: m.Self, Reachable: m.Self}
		if m.Self {
			all[i].Name, all[i].API = self, c.present.at.String()
			continue
		}
		asked.Go(func() {
			if u, err := url.Parse(m.URL); err == nil {
				all[i].Reachable = answers(ctx, u.Host)
			}
		})
	}
	asked.Wait()
	return all, nil
}

// answers says whether somebody listens there.
func answers(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}
