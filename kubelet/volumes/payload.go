package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// collect gathers the files of a volume whose content is the API's.
func (m *Manager) collect(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (files, error) {
	out := files{}
	switch {
	case v.ConfigMap != nil:
		s := v.ConfigMap
		return out, m.configMapFiles(ctx, pod, out, s.Name, s.Items, modeOr(s.DefaultMode), isTrue(s.Optional))
	case v.Secret != nil:
		s := v.Secret
		return out, m.secretFiles(ctx, pod, out, s.SecretName, s.Items, modeOr(s.DefaultMode), isTrue(s.Optional))
	case v.DownwardAPI != nil:
		return out, m.downwardFiles(pod, out, v.DownwardAPI.Items, modeOr(v.DownwardAPI.DefaultMode))
	case v.Projected != nil:
		var errs []error
		for i := range v.Projected.Sources {
			errs = append(errs, m.projectedFiles(ctx, pod, out, certificateKey{v.Name, i}, &v.Projected.Sources[i], modeOr(v.Projected.DefaultMode)))
		}
		return out, errors.Join(errs...)
	}
	return out, nil
}

func (m *Manager) projectedFiles(ctx context.Context, pod *corev1.Pod, out files, k certificateKey, s *corev1.VolumeProjection, mode fs.FileMode) error {
	switch {
	case s.ConfigMap != nil:
		return m.configMapFiles(ctx, pod, out, s.ConfigMap.Name, s.ConfigMap.Items, mode, isTrue(s.ConfigMap.Optional))
	case s.Secret != nil:
		return m.secretFiles(ctx, pod, out, s.Secret.Name, s.Secret.Items, mode, isTrue(s.Secret.Optional))
	case s.DownwardAPI != nil:
		return m.downwardFiles(pod, out, s.DownwardAPI.Items, mode)
	case s.ServiceAccountToken != nil:
		return m.tokenFile(ctx, pod, out, s.ServiceAccountToken, mode)
	case s.ClusterTrustBundle != nil:
		return m.bundleFile(ctx, pod, out, s.ClusterTrustBundle, mode)
	case s.PodCertificate != nil:
		return m.certificateFiles(ctx, pod, out, k, s.PodCertificate, mode)
	}
	return errPermanent{errors.New("projection of this kind is not supported yet")}
}

func (m *Manager) configMapFiles(ctx context.Context, pod *corev1.Pod, out files, name string, items []corev1.KeyToPath, mode fs.FileMode, optional bool) error {
	cm, err := m.objects.GetConfigMap(ctx, pod.Namespace, name)
	if apierrors.IsNotFound(err) && optional {
		return nil
	}
	if err != nil {
		return notFound("configmap", name, err)
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return pick(out, data, items, mode, optional, "configmap references non-existent config key: %s")
}

func (m *Manager) secretFiles(ctx context.Context, pod *corev1.Pod, out files, name string, items []corev1.KeyToPath, mode fs.FileMode, optional bool) error {
	s, err := m.objects.GetSecret(ctx, pod.Namespace, name)
	if apierrors.IsNotFound(err) && optional {
		return nil
	}
	if err != nil {
		return notFound("secret", name, err)
	}
	return pick(out, s.Data, items, mode, optional, "references non-existent secret key: %s")
}

// pick takes all keys, or the named items under their paths.
func pick(out files, data map[string][]byte, items []corev1.KeyToPath, mode fs.FileMode, optional bool, missing string) error {
	if len(items) == 0 {
		for k, v := range data {
			out[k] = content{data: v, mode: mode}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return fmt.Errorf(missing, item.Key)
		}
		c := content{data: v, mode: mode}
		if item.Mode != nil {
			c.mode = fs.FileMode(*item.Mode) & fs.ModePerm
		}
		if err := checkPath(item.Path); err != nil {
			return errPermanent{err}
		}
		out[path.Clean(item.Path)] = c
	}
	return nil
}

// modeOr is the mode given, or 0644, the API's default.
func modeOr(mode *int32) fs.FileMode {
	if mode == nil {
		return 0o644
	}
	return fs.FileMode(*mode) & fs.ModePerm
}

func isTrue(b *bool) bool { return b != nil && *b }
