package access

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/proa-dev/proa/apis/api"
)

// RevokedUsers is the ConfigMap of kube-system that lists users whose certificates count no
// longer. Certificates cannot be taken back, so each request is looked up here; a change
// counts with the next request.
const RevokedUsers = "proa-revoked-users"

var configMaps = schema.GroupResource{Resource: "configmaps"}

// Revocation is one entry: the user's certificates made until Before are refused, except
// those with a fingerprint (SHA-256, hex) in Except.
type Revocation struct {
	User   string      `json:"user"`
	Before metav1.Time `json:"before"`
	Except []string    `json:"except,omitempty"`
}

// RevocationKey is the key in the ConfigMap's data under which a user's entry is kept: user
// names may hold what keys may not.
func RevocationKey(user string) string {
	sum := sha256.Sum256([]byte(user))
	return "user-" + hex.EncodeToString(sum[:16])
}

// Encode gives the value of an entry.
func (r Revocation) Encode() (string, error) {
	data, err := json.Marshal(r)
	return string(data), err
}

// DecodeRevocation is the reverse of Encode.
func DecodeRevocation(value string) (Revocation, error) {
	var r Revocation
	err := json.Unmarshal([]byte(value), &r)
	return r, err
}

// revoked reads the list; what it parsed is kept until the object changes.
type revoked struct {
	reader api.Reader
	parsed atomic.Pointer[revokedList]
}

type revokedList struct {
	from  *corev1.ConfigMap
	users map[string]Revocation
}

// check refuses a certificate that was revoked. Entries that cannot be read count for
// nothing; the command that writes them checks them.
func (r *revoked) check(user string, made time.Time, fingerprint [sha256.Size]byte) error {
	if r == nil {
		return nil
	}
	obj, ok := r.reader.Get(configMaps, metav1.NamespaceSystem, RevokedUsers)
	list, isMap := obj.(*corev1.ConfigMap)
	if !ok || !isMap {
		return nil
	}
	p := r.parsed.Load()
	if p == nil || p.from != list {
		p = parseRevoked(list)
		r.parsed.Store(p)
	}
	e, ok := p.users[user]
	if !ok || made.After(e.Before.Time) || slices.Contains(e.Except, hex.EncodeToString(fingerprint[:])) {
		return nil
	}
	return fmt.Errorf("the certificate was revoked on %s", e.Before.UTC().Format(time.RFC3339))
}

func parseRevoked(list *corev1.ConfigMap) *revokedList {
	p := &revokedList{from: list, users: make(map[string]Revocation, len(list.Data))}
	for _, value := range list.Data {
		if e, err := DecodeRevocation(value); err == nil && e.User != "" {
			p.users[e.User] = e
		}
	}
	return p
}
