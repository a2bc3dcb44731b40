// Package localpath is what the parts of the built-in provisioner of local volumes agree on.
//
// The one idea: a volume is a folder directly below one folder of its node, named as the
// volume. The node says in an annotation where that folder is; the persistentvolume loop makes
// the PersistentVolume, bound to the node; the node's kubelet makes the folder when the
// first pod mounts it, and removes it when the loop asks over the kubelet's API, after
// the claim is gone. So data is removed only by name, one volume at a time, by the node that has it.
//
// Used by cluster, controllers/persistentvolume, kubelet/volumes and kubelet/server.
package localpath

const (
	// Provisioner is what storage classes name to get local volumes.
	Provisioner = "proa.dev/local-path"
	// Class is the storage class that each cluster begins with.
	Class = "local-path"
	// Folder is a node's annotation: the absolute path of the folder of its local volumes.
	Folder = "proa.dev/local-volumes"
	// Endpoint of the kubelet's API; DELETE of Endpoint plus a name removes a volume's folder.
	Endpoint = "/localVolumes/"
)
