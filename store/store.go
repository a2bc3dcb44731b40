// Package store keeps the cluster's objects: etcd underneath (embedded, or a cluster
// reached by its endpoints), a watch cache on top.
//
// The one idea: etcd is written to and watched once; everything else is answered from
// one copy-on-write tree per kind, whose items hold the decoded object, immutable, and
// its encodings. A snapshot is a root pointer, so lists, pages and the start of a watch
// are consistent and cost no locks. Acknowledged means fsynced; what a writer was told
// is in the cache before it is told so.
//
// Keys and values are upstream's (/registry/<prefix>/<namespace>/<name>, protobuf in the
// "k8s\x00" envelope without a resourceVersion), so an upstream cluster's etcd can be taken over.
//
// Used by apiserver alone (and by cluster, which opens it).
package store
