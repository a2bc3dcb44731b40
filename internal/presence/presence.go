// Package presence is what a server and the loop that publishes servers agree on: the lease by
// which a server says that it lives.
//
// The one idea: name, label and namespace are upstream's, so that tools find them; the address
// that clients shall use is an annotation.
//
// Used by cluster, which keeps the lease, and controllers/apiservers, which reads it.
package presence

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Namespace, Label and Value tell the leases of servers from others.
const (
	Namespace = metav1.NamespaceSystem
	Label     = "apiserver.kubernetes.io/identity"
	Value     = "kube-apiserver"
	// Address is the annotation with the address and port of the API.
	Address = "proa.dev/address"
)

// Renew is how often a server says that it lives, Life how long that counts.
const (
	Renew = 10 * time.Second
	Life  = 15 * time.Second
)

// LeaseName is that of a server's lease.
func LeaseName(server string) string {
	sum := sha256.Sum256([]byte(server))
	return "apiserver-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// AddressOf reads where the server of a lease answers; false: it is no server's.
func AddressOf(l *coordinationv1.Lease) (netip.AddrPort, bool) {
	if l.Namespace != Namespace || l.Labels[Label] != Value {
		return netip.AddrPort{}, false
	}
	at, err := netip.ParseAddrPort(l.Annotations[Address])
	return at, err == nil
}
