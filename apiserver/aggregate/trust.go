package aggregate

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ProxyName is the common name of this server's certificate towards backends.
const ProxyName = "front-proxy-client"

// TrustName is the config map in kube-system where backends learn whom to believe.
const TrustName = "extension-apiserver-authentication"

// PublishTrust tells backends which authority signs the certificates of clients, and which
// that of the proxy that speaks for users, and by which headers it does (all PEM). Keys of
// others in the config map stay.
func PublishTrust(ctx context.Context, client kubernetes.Interface, clientCA, proxyCA []byte) error {
	data := map[string]string{
		"client-ca-file":                     string(clientCA),
		"requestheader-client-ca-file":       string(proxyCA),
		"requestheader-allowed-names":        quoted(ProxyName),
		"requestheader-username-headers":     quoted("X-Remote-User"),
		"requestheader-uid-headers":          quoted("X-Remote-Uid"),
		"requestheader-group-headers":        quoted("X-Remote-Group"),
		"requestheader-extra-headers-prefix": quoted("X-Remote-Extra-"),
	}
	configMaps := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	now, err := configMaps.Get(ctx, TrustName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = configMaps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: TrustName}, Data: data}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // another server was quicker
		}
	} else if err == nil {
		whole := maps.Clone(now.Data)
		if whole == nil {
			whole = map[string]string{}
		}
		maps.Copy(whole, data)
		if maps.Equal(whole, now.Data) {
			return nil
		}
		now = now.DeepCopy()
		now.Data = whole
		_, err = configMaps.Update(ctx, now, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("publish config map %s: %w", TrustName, err)
	}
	return nil
}

// quoted is a JSON list of one string.
func quoted(s string) string {
	raw, _ := json.Marshal([]string{s}) // strings always encode
	return string(raw)
}
