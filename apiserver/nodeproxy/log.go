package nodeproxy

import (
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var logOptions = corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind()

// logLocation checks the options of kubectl logs and hands them on.
func (p *Proxy) logLocation(req Request, q url.Values) (target, error) {
	params, errs := logParams(q)
	if len(errs) > 0 {
		return target{}, apierrors.NewInvalid(logOptions, req.Name, errs)
	}
	pod, err := p.pod(req)
	if err != nil {
		return target{}, err
	}
	name, err := container(pod, q.Get("container"))
	if err != nil {
		return target{}, err
	}
	u, err := p.podKubelet(pod)
	if err != nil {
		return target{}, err
	}
	u.Path = "/containerLogs/" + pod.Namespace + "/" + pod.Name + "/" + name
	u.RawQuery = params.Encode()
	return target{url: u, node: pod.Spec.NodeName, stream: true, texts: true}, nil
}

func logParams(q url.Values) (url.Values, field.ErrorList) {
	params := url.Values{}
	var errs field.ErrorList
	for _, name := range []string{"follow", "previous", "timestamps"} {
		on, err := flag(q, name)
		if err != nil {
			errs = append(errs, field.Invalid(field.NewPath(name), q.Get(name), "must be true or false"))
		}
		if on {
			params.Set(name, "true")
		}
	}
	for name, least := range map[string]int64{"tailLines": 0, "limitBytes": 1, "sinceSeconds": 1} {
		value := q.Get(name)
		if value == "" {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < least {
			text := "must be greater than 0"
			if least == 0 {
				text = "must be greater than or equal to 0"
			}
			errs = append(errs, field.Invalid(field.NewPath(name), value, text))
			continue
		}
		params.Set(name, value)
	}
	if since := q.Get("sinceTime"); since != "" {
		if _, err := time.Parse(time.RFC3339, since); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("sinceTime"), since, "must be a time as in RFC 3339"))
		}
		if q.Get("sinceSeconds") != "" {
			errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
		}
		params.Set("sinceTime", since)
	}
	switch stream := q.Get("stream"); stream {
	case "":
	case corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr:
		if stream != corev1.LogStreamAll && q.Get("tailLines") != "" {
			errs = append(errs, field.Forbidden(field.NewPath(""), "`tailLines` and specific `stream` are mutually exclusive for now"))
		}
		params.Set("stream", stream)
	default:
		errs = append(errs, field.NotSupported(field.NewPath("stream"), stream,
			[]string{corev1.LogStreamAll, corev1.LogStreamStdout, corev1.LogStreamStderr}))
	}
	return params, errs
}
