package access

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// UserRecords is the ConfigMap of kube-system that lists the users made by proa, and those
// whose certificates count no longer. Certificates cannot be taken back, so each request is
// looked up here, and a change ends the connections that are open (package access/sessions).
const UserRecords = "proa-users"

// NodeRecords is the ConfigMap of kube-system that does the same for nodes that were deleted:
// whoever takes a node out of the cluster takes its certificates too. A certificate that is
// signed later (the node joined anew) counts.
const NodeRecords = "proa-nodes"

// nodeUser begins the user names of nodes.
const nodeUser = "system:node:"

// RecordsOf is the ConfigMap that a user's record is in.
func RecordsOf(user string) string {
	if strings.HasPrefix(user, nodeUser) {
		return NodeRecords
	}
	return UserRecords
}

var configMaps = schema.GroupResource{Resource: "configmaps"}

// UserRecord is one entry. Once Revoked is set, certificates of the user made until then are
// refused, except those with a fingerprint (SHA-256, hex) in Except.
type UserRecord struct {
	User    string      `json:"user"`
	Groups  []string    `json:"groups,omitempty"`
	Made    metav1.Time `json:"made,omitzero"`
	Expires metav1.Time `json:"expires,omitzero"` // of the last certificate
	Revoked metav1.Time `json:"revoked,omitzero"`
	Except  []string    `json:"except,omitempty"`
}

// UserRecordKey is the key in the ConfigMap's data under which a user's entry is kept: user
// names may hold what keys may not.
func UserRecordKey(user string) string {
	sum := sha256.Sum256([]byte(user))
	return "user-" + hex.EncodeToString(sum[:16])
}

// Encode gives the value of an entry.
func (r UserRecord) Encode() (string, error) {
	data, err := json.Marshal(r)
	return string(data), err
}

// DecodeUserRecord is the reverse of Encode.
func DecodeUserRecord(value string) (UserRecord, error) {
	var r UserRecord
	err := json.Unmarshal([]byte(value), &r)
	return r, err
}

// revoked reads the lists; what it parsed of one is kept until the object changes.
type revoked struct {
	reader       api.Reader
	users, nodes atomic.Pointer[revokedList]
}

type revokedList struct {
	from  *corev1.ConfigMap
	users map[string]UserRecord
}

// check refuses a certificate that was revoked. Entries that cannot be read count for
// nothing; the command that writes them checks them.
func (r *revoked) check(user string, made time.Time, fingerprint [sha256.Size]byte) error {
	if r == nil {
		return nil
	}
	name, parsed := RecordsOf(user), &r.users
	if name == NodeRecords {
		parsed = &r.nodes
	}
	obj, ok := r.reader.Get(configMaps, metav1.NamespaceSystem, name)
	list, isMap := obj.(*corev1.ConfigMap)
	if !ok || !isMap {
		return nil
	}
	p := parsed.Load()
	if p == nil || p.from != list {
		p = parseRevoked(list)
		parsed.Store(p)
	}
	e, ok := p.users[user]
	if !ok || e.Revoked.IsZero() || made.After(e.Revoked.Time) || slices.Contains(e.Except, hex.EncodeToString(fingerprint[:])) {
		return nil
	}
	return fmt.Errorf("the certificate was revoked on %s", e.Revoked.UTC().Format(time.RFC3339))
}

// Revoked says whether a client certificate was taken back, for connections that are open.
func (id *Identity) Revoked(cert *x509.Certificate) bool {
	return id.list.check(cert.Subject.CommonName, cert.NotBefore, sha256.Sum256(cert.Raw)) != nil
}

func parseRevoked(list *corev1.ConfigMap) *revokedList {
	p := &revokedList{from: list, users: make(map[string]UserRecord, len(list.Data))}
	for _, value := range list.Data {
		if e, err := DecodeUserRecord(value); err == nil && e.User != "" {
			p.users[e.User] = e
		}
	}
	return p
}
