package core

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateVolumes(list []corev1.Volume, path *field.Path) (map[string]*corev1.Volume, field.ErrorList) {
	var errs field.ErrorList
	names := make(map[string]*corev1.Volume, len(list))
	for i := range list {
		v, p := &list[i], path.Index(i)
		switch {
		case v.Name == "":
			errs = append(errs, field.Required(p.Child("name"), ""))
		case names[v.Name] != nil:
			errs = append(errs, field.Duplicate(p.Child("name"), v.Name))
		default:
			errs = append(errs, dnsLabel(v.Name, p.Child("name"))...)
		}
		names[v.Name] = v
		errs = append(errs, validateVolumeSource(&v.VolumeSource, p)...)
	}
	return names, errs
}

func validateVolumeSource(s *corev1.VolumeSource, path *field.Path) field.ErrorList {
	sources := reflect.ValueOf(s).Elem()
	n := 0
	var errs field.ErrorList
	for i := range sources.NumField() {
		if sources.Field(i).IsNil() {
			continue
		}
		if n++; n > 1 {
			name, _, _ := strings.Cut(sources.Type().Field(i).Tag.Get("json"), ",")
			errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 volume type"))
		}
	}
	if n == 0 {
		return field.ErrorList{field.Required(path, "must specify a volume type")}
	}
	if n > 1 {
		return errs
	}
	return validateOneSource(s, path)
}

func validateOneSource(s *corev1.VolumeSource, path *field.Path) field.ErrorList {
	switch {
	case s.EmptyDir != nil:
		if l := s.EmptyDir.SizeLimit; l != nil && l.Sign() < 0 {
			return field.ErrorList{field.Forbidden(path.Child("emptyDir", "sizeLimit"), "SizeLimit field must be a valid resource quantity")}
		}
	case s.HostPath != nil:
		return validateHostPath(s.HostPath, path.Child("hostPath"))
	case s.GitRepo != nil:
		return validateGitRepo(s.GitRepo, path.Child("gitRepo"))
	case s.Secret != nil:
		p := path.Child("secret")
		errs := required(s.Secret.SecretName, p.Child("secretName"), "")
		errs = append(errs, validateMode(s.Secret.DefaultMode, p.Child("defaultMode"))...)
		return append(errs, validateItems(s.Secret.Items, p.Child("items"))...)
	case s.ConfigMap != nil:
		p := path.Child("configMap")
		errs := required(s.ConfigMap.Name, p.Child("name"), "")
		errs = append(errs, validateMode(s.ConfigMap.DefaultMode, p.Child("defaultMode"))...)
		return append(errs, validateItems(s.ConfigMap.Items, p.Child("items"))...)
	case s.DownwardAPI != nil:
		p := path.Child("downwardAPI")
		errs := validateMode(s.DownwardAPI.DefaultMode, p.Child("defaultMode"))
		return append(errs, validateDownward(s.DownwardAPI.Items, p)...)
	case s.Projected != nil:
		return validateProjected(s.Projected, path.Child("projected"))
	case s.PersistentVolumeClaim != nil:
		return required(s.PersistentVolumeClaim.ClaimName, path.Child("persistentVolumeClaim", "claimName"), "")
	case s.Ephemeral != nil:
		p := path.Child("ephemeral", "volumeClaimTemplate")
		if s.Ephemeral.VolumeClaimTemplate == nil {
			return field.ErrorList{field.Required(p, "")}
		}
		return validateClaimSpec(&s.Ephemeral.VolumeClaimTemplate.Spec, p.Child("spec"))
	case s.NFS != nil:
		errs := required(s.NFS.Server, path.Child("nfs", "server"), "")
		return append(errs, required(s.NFS.Path, path.Child("nfs", "path"), "")...)
	case s.CSI != nil:
		return required(s.CSI.Driver, path.Child("csi", "driver"), "")
	case s.Image != nil:
		return required(s.Image.Reference, path.Child("image", "reference"), "")
	}
	return nil
}

func validateHostPath(s *corev1.HostPathVolumeSource, path *field.Path) field.ErrorList {
	if s.Path == "" {
		return field.ErrorList{field.Required(path.Child("path"), "")}
	}
	errs := noBackSteps(s.Path, path.Child("path"))
	if s.Type != nil {
		errs = append(errs, oneOf(*s.Type, path.Child("type"), corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev,
			corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket)...)
	}
	return errs
}

func validateMode(mode *int32, path *field.Path) field.ErrorList {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		return field.ErrorList{field.Invalid(path, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
	}
	return nil
}

func validateItems(items []corev1.KeyToPath, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range items {
		k, p := &items[i], path.Index(i)
		errs = append(errs, required(k.Key, p.Child("key"), "")...)
		errs = append(errs, required(k.Path, p.Child("path"), "")...)
		errs = append(errs, localPath(k.Path, p.Child("path"))...)
		errs = append(errs, validateMode(k.Mode, p.Child("mode"))...)
	}
	return errs
}

func validateDownward(items []corev1.DownwardAPIVolumeFile, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range items {
		f := &items[i]
		errs = append(errs, required(f.Path, path.Child("path"), "")...)
		errs = append(errs, localPath(f.Path, path.Child("path"))...)
		switch {
		case f.FieldRef != nil && f.ResourceFieldRef != nil:
			errs = append(errs, field.Invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		case f.FieldRef != nil:
			errs = append(errs, validateFieldRef(f.FieldRef, volumeFields, path.Child("fieldRef"))...)
		case f.ResourceFieldRef != nil:
			errs = append(errs, validateResourceRef(f.ResourceFieldRef, true, path.Child("resourceFieldRef"))...)
		default:
			errs = append(errs, field.Required(path, "one of fieldRef and resourceFieldRef is required"))
		}
		errs = append(errs, validateMode(f.Mode, path.Child("mode"))...)
	}
	return errs
}

func validateProjected(v *corev1.ProjectedVolumeSource, path *field.Path) field.ErrorList {
	errs := validateMode(v.DefaultMode, path.Child("defaultMode"))
	for i := range v.Sources {
		s, p := &v.Sources[i], path.Child("sources").Index(i)
		if n := countSources(s); n > 1 {
			errs = append(errs, field.Forbidden(p, "may not specify more than 1 volume type per source"))
		} else if n == 0 {
			errs = append(errs, field.Required(p, "must specify one volume source type per source"))
		}
		if s.Secret != nil {
			errs = append(errs, required(s.Secret.Name, p.Child("secret", "name"), "")...)
			errs = append(errs, validateItems(s.Secret.Items, p.Child("secret", "items"))...)
		}
		if s.ConfigMap != nil {
			errs = append(errs, required(s.ConfigMap.Name, p.Child("configMap", "name"), "")...)
			errs = append(errs, validateItems(s.ConfigMap.Items, p.Child("configMap", "items"))...)
		}
		if s.DownwardAPI != nil {
			errs = append(errs, validateDownward(s.DownwardAPI.Items, p.Child("downwardAPI"))...)
		}
		if t := s.ServiceAccountToken; t != nil {
			errs = append(errs, validateTokenSource(t, p.Child("serviceAccountToken"))...)
		}
		if c := s.PodCertificate; c != nil {
			errs = append(errs, validateCertificateSource(c, p.Child("podCertificate"))...)
		}
	}
	return errs
}

// Bounds of the life of a pod's certificate, in seconds: an hour to 91 days.
const (
	minCertificateSeconds = 3600
	maxCertificateSeconds = 91 * 24 * 3600
)

// podKeyTypes are the keys that a node makes for a pod.
var podKeyTypes = []string{"ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"}

func validateCertificateSource(c *corev1.PodCertificateProjection, path *field.Path) field.ErrorList {
	errs := required(c.SignerName, path.Child("signerName"), "")
	if !slices.Contains(podKeyTypes, c.KeyType) {
		errs = append(errs, field.NotSupported(path.Child("keyType"), c.KeyType, podKeyTypes))
	}
	switch e, p := c.MaxExpirationSeconds, path.Child("maxExpirationSeconds"); {
	case e == nil:
	case *e < minCertificateSeconds:
		errs = append(errs, field.Invalid(p, *e, fmt.Sprintf("if provided, maxExpirationSeconds must be >= %d", minCertificateSeconds)))
	case *e > maxCertificateSeconds:
		errs = append(errs, field.Invalid(p, *e, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", maxCertificateSeconds)))
	}
	some := false
	for name, file := range map[string]string{"credentialBundlePath": c.CredentialBundlePath, "keyPath": c.KeyPath, "certificateChainPath": c.CertificateChainPath} {
		if file != "" {
			some = true
			errs = append(errs, localPath(file, path.Child(name))...)
		}
	}
	if !some {
		errs = append(errs, field.Required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"))
	}
	return errs
}

func countSources(s *corev1.VolumeProjection) int {
	n, value := 0, reflect.ValueOf(s).Elem()
	for i := range value.NumField() {
		if !value.Field(i).IsNil() {
			n++
		}
	}
	return n
}

func validateTokenSource(t *corev1.ServiceAccountTokenProjection, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if e := t.ExpirationSeconds; e != nil && *e < minTokenSeconds {
		errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *e, "may not specify a duration less than 10 minutes"))
	} else if e != nil && *e > maxTokenSeconds {
		errs = append(errs, field.Invalid(path.Child("expirationSeconds"), *e, "may not specify a duration larger than 2^32 seconds"))
	}
	if t.Path == "" {
		return append(errs, field.Required(path.Child("path"), ""))
	}
	return append(errs, localPath(t.Path, path.Child("path"))...)
}

// validateGitRepo: no node makes such a volume any more, objects may still hold one.
func validateGitRepo(g *corev1.GitRepoVolumeSource, path *field.Path) field.ErrorList {
	errs := required(g.Repository, path.Child("repository"), "")
	return append(errs, localPath(g.Directory, path.Child("directory"))...)
}
