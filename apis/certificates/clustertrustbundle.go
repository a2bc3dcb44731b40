package certificates

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/proa-dev/proa/apis/api"
	"github.com/proa-dev/proa/apis/internal/check"
)

type bundle = *certificatesv1.ClusterTrustBundle

const maxBundle = 1 << 20

// ClusterTrustBundles are the certificates that those whom a signer gave one are known by.
var ClusterTrustBundles = api.Define(api.Resource[bundle]{
	Group: certificatesv1.GroupName, Version: "v1", Kind: "ClusterTrustBundle", Plural: "clustertrustbundles",
	Alike: []string{"v1alpha1", "v1beta1"}, Written: "v1beta1",
	ValidateName: path.ValidatePathSegmentName, // with colons when it belongs to a signer; see validateBundleName
	Validate:     validateBundle,
	ValidateCreate: func(b bundle) field.ErrorList {
		return anchors(b.Spec.TrustBundle, field.NewPath("spec", "trustBundle"))
	},
	ValidateUpdate: func(b, old bundle) field.ErrorList {
		errs := check.Immutable(field.NewPath("spec", "signerName"), b.Spec.SignerName, old.Spec.SignerName)
		if b.Spec.TrustBundle != old.Spec.TrustBundle { // what is stored may hold what newer Go refuses
			errs = append(errs, anchors(b.Spec.TrustBundle, field.NewPath("spec", "trustBundle"))...)
		}
		return errs
	},
	Fields: map[string]func(bundle) string{
		"spec.signerName": func(b bundle) string { return b.Spec.SignerName },
	},
	Columns: []api.Column[bundle]{
		api.Text("SignerName", certificatesv1.ClusterTrustBundleSpec{}.SwaggerDoc()["signerName"], func(b bundle) string {
			if b.Spec.SignerName == "" {
				return "<none>"
			}
			return b.Spec.SignerName
		}),
	},
})

func validateBundle(b bundle) field.ErrorList {
	errs := validateBundleName(b)
	if b.Spec.SignerName != "" {
		errs = append(errs, validateSignerName(field.NewPath("spec", "signerName"), b.Spec.SignerName)...)
	}
	return errs
}

// validateBundleName wants the signer's name before that of its bundle: example.com:web:a.
func validateBundleName(b bundle) field.ErrorList {
	at := field.NewPath("metadata", "name")
	if b.Spec.SignerName == "" {
		if strings.Contains(b.Name, ":") {
			return field.ErrorList{field.Invalid(at, b.Name, `ClusterTrustBundle without signer name must not have ":" in its name`)}
		}
		return check.Each(at, b.Name, validation.IsDNS1123Subdomain(b.Name))
	}
	prefix := strings.ReplaceAll(b.Spec.SignerName, "/", ":") + ":"
	rest, ok := strings.CutPrefix(b.Name, prefix)
	if !ok {
		return field.ErrorList{field.Invalid(at, b.Name, fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", b.Spec.SignerName, prefix))}
	}
	return check.Each(at, b.Name, validation.IsDNS1123Subdomain(rest))
}

// anchors wants one or more certificates of authorities, none of them twice.
func anchors(text string, at *field.Path) field.ErrorList {
	if errs := check.Longest(at, text, maxBundle); len(errs) > 0 {
		return errs
	}
	var errs field.ErrorList
	refuse := func(format string, args ...any) {
		errs = append(errs, field.Invalid(at, "<value omitted>", fmt.Sprintf(format, args...)))
	}
	same := map[string][]int{}
	rest, i := []byte(text), 0
	for ; ; i++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type != "CERTIFICATE":
			refuse("entry %d has bad block type: %v", i, block.Type)
			continue
		case len(block.Headers) > 0:
			refuse("entry %d has PEM block headers", i)
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			refuse("entry %d does not parse as X.509", i)
			continue
		case !cert.IsCA:
			refuse("entry %d does not have the CA bit set", i)
		case !cert.BasicConstraintsValid:
			refuse("entry %d has invalid basic constraints", i)
		}
		same[string(cert.Raw)] = append(same[string(cert.Raw)], i)
	}
	if i == 0 {
		refuse("at least one trust anchor must be provided")
	}
	for _, entries := range same {
		if len(entries) > 1 {
			refuse("duplicate trust anchor (indices %v)", entries)
		}
	}
	return errs
}
