package access

import (
	"strings"

	"github.com/proa-dev/proa/apis/api"
)

// Names of users and groups that Kubernetes itself defines.
const (
	Anonymous       = "system:anonymous"
	Unauthenticated = "system:unauthenticated"
	Authenticated   = "system:authenticated"
	Masters         = "system:masters"
	Nodes           = "system:nodes"
	Bootstrappers   = "system:bootstrappers"
	Monitoring      = "system:monitoring"

	nodePrefix           = "system:node:"
	bootstrapPrefix      = "system:bootstrap:"
	serviceAccountPrefix = "system:serviceaccount:"
	serviceAccountsGroup = "system:serviceaccounts"

	// DefaultNodesGroup holds machines that join by the tokens proa and kubeadm make.
	DefaultNodesGroup = "system:bootstrappers:kubeadm:default-node-token"
	// ServersGroup holds machines that join as further servers: they get the cluster's keys.
	ServersGroup = "system:bootstrappers:proa:servers"
)

// ServiceAccountUser is the user name of a service account.
func ServiceAccountUser(namespace, name string) string {
	return serviceAccountPrefix + namespace + ":" + name
}

// SplitServiceAccount is the reverse of ServiceAccountUser.
func SplitServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, serviceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}

// NodeOf says whether a user is a node, and which. A user in system:nodes whose name does
// not say which node is one without a name.
func NodeOf(u *api.User) (name string, isNode bool) {
	if u == nil || !strings.HasPrefix(u.Name, nodePrefix) || !hasGroup(u, Nodes) {
		return "", false
	}
	return strings.TrimPrefix(u.Name, nodePrefix), true
}

func hasGroup(u *api.User, group string) bool {
	for _, g := range u.Groups {
		if g == group {
			return true
		}
	}
	return false
}
