package pki

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig describes a kubeconfig whose credentials are embedded.
type Kubeconfig struct {
	Cluster string // name of the cluster and, with User, of the context
	Server  string // https://host:port
	CA      []byte // PEM
	User    string
	Cert    []byte // PEM; empty with Token
	Key     []byte
	Token   string
}

// Encode gives the file's content.
func (k Kubeconfig) Encode() ([]byte, error) {
	data, err := clientcmd.Write(*k.Config())
	if err != nil {
		return nil, fmt.Errorf("encode kubeconfig: %w", err)
	}
	return data, nil
}

// Config is the same as client-go's type, for merging into a user's file.
func (k Kubeconfig) Config() *clientcmdapi.Config {
	name := k.User + "@" + k.Cluster
	if k.User == "" || k.User == k.Cluster {
		name = k.Cluster
	}
	user := k.User
	if user == "" {
		user = k.Cluster
	}
	c := clientcmdapi.NewConfig()
	c.Clusters[k.Cluster] = &clientcmdapi.Cluster{Server: k.Server, CertificateAuthorityData: k.CA}
	c.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: k.Cert, ClientKeyData: k.Key, Token: k.Token}
	c.Contexts[name] = &clientcmdapi.Context{Cluster: k.Cluster, AuthInfo: user}
	c.CurrentContext = name
	return c
}

// Write encodes and stores it, readable by its owner alone.
func (k Kubeconfig) Write(path string) error {
	data, err := k.Encode()
	if err != nil {
		return err
	}
	return writeFile(path, data, 0o600)
}
