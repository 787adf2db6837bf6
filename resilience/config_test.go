package resilience_test

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/breakwater-go/breakwater/events"
	"github.com/breakwater-go/breakwater/resilience"
)

// defaults is what a breaker decides by that was told nothing (rule 1).
var defaults = events.Thresholds{
	ErrorThreshold:   0.5,
	VolumeThreshold:  10,
	SleepWindow:      30 * time.Second,
	HalfOpenRequests: 5,
	SuccessThreshold: 0.6,
	ProbeTimeout:     30 * time.Second,
	WindowSize:       60 * time.Second,
	BucketCount:      10,
}

// thresholds returns what a breaker of config says it decides by.
func thresholds(t *testing.T, config *resilience.CircuitBreakerConfig) events.Thresholds {
	t.Helper()
	_, rec := observed(t, config)
	return last[events.BreakerCreated](t, rec).Thresholds
}

// Rule 1: a zero field means its default.
func TestBreakerDefaults(t *testing.T) {
	require.Equal(t, defaults, thresholds(t, &resilience.CircuitBreakerConfig{}))
	require.Equal(t, defaults, thresholds(t, resilience.DefaultConfig()))

	c := resilience.DefaultConfig()
	require.Equal(t, "default", c.Name)
	require.NotNil(t, c.ErrorClassifier)
	require.Nil(t, c.Logger)
	require.Nil(t, c.Metrics)
	require.Zero(t, c.SlowCallDuration)
	require.Zero(t, c.SlowCallThreshold)
	c.ErrorThreshold = 0.9
	require.InDelta(t, 0.5, resilience.DefaultConfig().ErrorThreshold, 0, "each is a new one")
}

// Rule 1: a literal names only what differs.
func TestPartialConfigs(t *testing.T) {
	for _, tt := range []struct {
		config resilience.CircuitBreakerConfig
		differ func(*events.Thresholds)
	}{
		{resilience.CircuitBreakerConfig{ErrorThreshold: 0.3}, func(th *events.Thresholds) { th.ErrorThreshold = 0.3 }},
		{resilience.CircuitBreakerConfig{ErrorThreshold: 1}, func(th *events.Thresholds) { th.ErrorThreshold = 1 }},
		{resilience.CircuitBreakerConfig{ErrorThreshold: math.SmallestNonzeroFloat64}, func(th *events.Thresholds) { th.ErrorThreshold = math.SmallestNonzeroFloat64 }},
		{resilience.CircuitBreakerConfig{ErrorThreshold: math.Copysign(0, -1)}, func(*events.Thresholds) {}},
		{resilience.CircuitBreakerConfig{VolumeThreshold: 1}, func(th *events.Thresholds) { th.VolumeThreshold = 1 }},
		{resilience.CircuitBreakerConfig{VolumeThreshold: math.MaxInt32}, func(th *events.Thresholds) { th.VolumeThreshold = math.MaxInt32 }},
		{resilience.CircuitBreakerConfig{SleepWindow: 1}, func(th *events.Thresholds) { th.SleepWindow, th.ProbeTimeout = 1, 1 }},
		{resilience.CircuitBreakerConfig{SleepWindow: 876000 * time.Hour}, func(th *events.Thresholds) {
			th.SleepWindow, th.ProbeTimeout = 876000*time.Hour, 876000*time.Hour
		}},
		{resilience.CircuitBreakerConfig{ProbeTimeout: time.Second}, func(th *events.Thresholds) { th.ProbeTimeout = time.Second }},
		{resilience.CircuitBreakerConfig{HalfOpenRequests: 1}, func(th *events.Thresholds) { th.HalfOpenRequests = 1 }},
		{resilience.CircuitBreakerConfig{SuccessThreshold: 1}, func(th *events.Thresholds) { th.SuccessThreshold = 1 }},
		{resilience.CircuitBreakerConfig{WindowSize: 10 * time.Millisecond}, func(th *events.Thresholds) { th.WindowSize = 10 * time.Millisecond }},
		{resilience.CircuitBreakerConfig{BucketCount: 1000}, func(th *events.Thresholds) { th.BucketCount = 1000 }},
		{resilience.CircuitBreakerConfig{SlowCallDuration: 1, SlowCallThreshold: 1}, func(th *events.Thresholds) {
			th.SlowCallDuration, th.SlowCallThreshold = 1, 1
		}},
	} {
		want := defaults
		tt.differ(&want)
		require.NoError(t, tt.config.Validate())
		require.Equal(t, want, thresholds(t, &tt.config))
	}
}

// It must hold: a configuration that can never work is refused, and the error names
// the field, its value and what would be valid.
func TestBadConfigs(t *testing.T) {
	type config = resilience.CircuitBreakerConfig
	nan, inf := math.NaN(), math.Inf(1)
	for _, tt := range []struct {
		config config
		field  string
		value  any
		want   string // part of the wish
	}{
		{config{ErrorThreshold: -0.1}, "ErrorThreshold", -0.1, "above 0 and at most 1"},
		{config{ErrorThreshold: 1.0000001}, "ErrorThreshold", 1.0000001, "at most 1"},
		{config{ErrorThreshold: 50}, "ErrorThreshold", 50.0, "at most 1"},
		{config{ErrorThreshold: nan}, "ErrorThreshold", nan, "at most 1"},
		{config{ErrorThreshold: inf}, "ErrorThreshold", inf, "at most 1"},
		{config{ErrorThreshold: -inf}, "ErrorThreshold", -inf, "above 0"},
		{config{SuccessThreshold: -0.1}, "SuccessThreshold", -0.1, "above 0"},
		{config{SuccessThreshold: 1.1}, "SuccessThreshold", 1.1, "at most 1"},
		{config{SuccessThreshold: nan}, "SuccessThreshold", nan, "at most 1"},
		{config{SuccessThreshold: inf}, "SuccessThreshold", inf, "at most 1"},
		{config{SuccessThreshold: -inf}, "SuccessThreshold", -inf, "above 0"},
		{config{VolumeThreshold: -1}, "VolumeThreshold", -1, "at least 1"},
		{config{VolumeThreshold: math.MinInt}, "VolumeThreshold", math.MinInt, "at least 1"},
		{config{VolumeThreshold: math.MaxInt32 + 1}, "VolumeThreshold", math.MaxInt32 + 1, "at most 2147483647"},
		{config{VolumeThreshold: math.MaxInt}, "VolumeThreshold", math.MaxInt, "at most"},
		{config{HalfOpenRequests: -1}, "HalfOpenRequests", -1, "at least 1"},
		{config{HalfOpenRequests: math.MaxInt}, "HalfOpenRequests", math.MaxInt, "at most"},
		{config{SleepWindow: -1}, "SleepWindow", time.Duration(-1), "positive"},
		{config{SleepWindow: math.MinInt64}, "SleepWindow", time.Duration(math.MinInt64), "positive"},
		{config{SleepWindow: math.MaxInt64}, "SleepWindow", time.Duration(math.MaxInt64), "at most 876000h"},
		{config{SleepWindow: 876000*time.Hour + 1}, "SleepWindow", 876000*time.Hour + 1, "at most 876000h"},
		{config{ProbeTimeout: -time.Second}, "ProbeTimeout", -time.Second, "positive"},
		{config{ProbeTimeout: math.MaxInt64}, "ProbeTimeout", time.Duration(math.MaxInt64), "at most 876000h"},
		{config{WindowSize: -time.Minute}, "WindowSize", -time.Minute, "positive"},
		{config{WindowSize: math.MaxInt64}, "WindowSize", time.Duration(math.MaxInt64), "at most 876000h"},
		{config{WindowSize: 1}, "WindowSize", time.Duration(1), "at least 10ms"},
		{config{WindowSize: 10*time.Millisecond - 1}, "WindowSize", 10*time.Millisecond - 1, "at least 10ms"},
		{config{WindowSize: time.Second, BucketCount: 1000, ErrorThreshold: 0.5, VolumeThreshold: -3}, "VolumeThreshold", -3, "at least 1"},
		{config{WindowSize: 999 * time.Millisecond, BucketCount: 1000}, "WindowSize", 999 * time.Millisecond, "at least 1s"},
		{config{BucketCount: -1}, "BucketCount", -1, "at least 1"},
		{config{BucketCount: 1001}, "BucketCount", 1001, "at most 1000"},
		{config{BucketCount: math.MaxInt}, "BucketCount", math.MaxInt, "at most 1000"},
		{config{BucketCount: math.MinInt}, "BucketCount", math.MinInt, "at least 1"},
		{config{SlowCallDuration: -1, SlowCallThreshold: 0.5}, "SlowCallDuration", time.Duration(-1), "positive"},
		{config{SlowCallDuration: math.MaxInt64, SlowCallThreshold: 0.5}, "SlowCallDuration", time.Duration(math.MaxInt64), "at most 876000h"},
		{config{SlowCallDuration: 1, SlowCallThreshold: -0.5}, "SlowCallThreshold", -0.5, "above 0 and at most 1"},
		{config{SlowCallDuration: 1, SlowCallThreshold: 1.5}, "SlowCallThreshold", 1.5, "at most 1"},
		{config{SlowCallDuration: 1, SlowCallThreshold: nan}, "SlowCallThreshold", nan, "at most 1"},
		{config{SlowCallDuration: 1, SlowCallThreshold: inf}, "SlowCallThreshold", inf, "at most 1"},
		{config{SlowCallDuration: time.Second}, "SlowCallThreshold", 0.0, "when SlowCallDuration is set"},
		{config{SlowCallThreshold: 0.5}, "SlowCallDuration", time.Duration(0), "when SlowCallThreshold is set"},
		{config{SlowCallThreshold: nan}, "SlowCallThreshold", nan, "turn it off"},
	} {
		t.Run(fmt.Sprint(tt.field, " ", tt.value), func(t *testing.T) {
			err := configError(t, func() { resilience.NewCircuitBreaker(&tt.config) })
			require.Equal(t, "CircuitBreakerConfig", err.Config)
			require.Equal(t, tt.field, err.Field)
			require.Equal(t, fmt.Sprint(tt.value), fmt.Sprint(err.Value))
			require.IsType(t, tt.value, err.Value)
			require.Contains(t, err.Want, tt.want)
			require.Equal(t, fmt.Sprintf("resilience: CircuitBreakerConfig.%s is %v, want %s", tt.field, tt.value, err.Want), err.Error())
			if tt.field == "SlowCallThreshold" || tt.field == "SlowCallDuration" {
				require.NotContains(t, err.Want, "default", "they have none")
			}

			validated := tt.config.Validate()
			require.ErrorIs(t, validated, resilience.ErrInvalidConfig)
			require.Equal(t, err.Error(), validated.Error())
		})
	}
}

func TestGoodConfigs(t *testing.T) {
	require.NoError(t, (*resilience.CircuitBreakerConfig)(nil).Validate())
	require.NoError(t, (&resilience.CircuitBreakerConfig{}).Validate())
	require.NoError(t, resilience.DefaultConfig().Validate())
	require.NoError(t, small().Validate())
	// More than the window will ever see is the user's business.
	require.NoError(t, (&resilience.CircuitBreakerConfig{
		VolumeThreshold: 1e9, WindowSize: time.Millisecond, BucketCount: 1,
	}).Validate())
}

// A valid configuration at its limits neither panics nor overflows later.
func TestConfigsAtTheirLimits(t *testing.T) {
	for i, c := range []resilience.CircuitBreakerConfig{
		{SleepWindow: 876000 * time.Hour, ProbeTimeout: 876000 * time.Hour},
		{WindowSize: 876000 * time.Hour, BucketCount: 1},
		{WindowSize: 876000 * time.Hour, BucketCount: 1000},
		{WindowSize: time.Second, BucketCount: 1000},
		{HalfOpenRequests: math.MaxInt32, SuccessThreshold: math.SmallestNonzeroFloat64},
		{HalfOpenRequests: math.MaxInt32, SuccessThreshold: 1},
		{ErrorThreshold: math.SmallestNonzeroFloat64, SlowCallDuration: 1, SlowCallThreshold: math.SmallestNonzeroFloat64},
		{SleepWindow: 1, ProbeTimeout: 1, VolumeThreshold: 1},
		{SlowCallDuration: 876000 * time.Hour, SlowCallThreshold: 1},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cb, _ := observed(t, &c)
				for range 2 {
					for range 20 {
						_ = cb.Execute(t.Context(), broken)
					}
					require.Equal(t, open, cb.GetStats().Snapshot.State)
					pass(24 * time.Hour)
					for range 5 {
						_ = cb.Execute(t.Context(), broken)
						_ = cb.Execute(t.Context(), healthy)
					}
					cb.ForceOpen()
					cb.ClearForce()
					pass(24 * time.Hour)
					cb.Reset()
				}
			})
		})
	}
}

// The configuration is copied.
func TestConfigIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := small()
		cb := resilience.NewCircuitBreaker(c)
		same := *small()
		same.Events, c.Events = events.Sink{}, events.Sink{}
		require.Equal(t, fmt.Sprintf("%+v", same), fmt.Sprintf("%+v", *c), "and left as it was")
		*c = resilience.CircuitBreakerConfig{
			Name: "another", ErrorThreshold: 1, VolumeThreshold: 1e6, SleepWindow: time.Hour, HalfOpenRequests: 100,
			SuccessThreshold: 1, WindowSize: time.Hour, BucketCount: 1, ProbeTimeout: time.Hour,
			ErrorClassifier: func(error) bool { t.Error("asked"); return false },
		}
		require.Equal(t, "payment", cb.Name())
		failIn(t, cb, 4)
		require.Equal(t, open, cb.State())
		pass(30 * time.Second)
		requireRecovers(t, cb)
	})
}

// Rule 1: nil is all defaults.
func TestNilConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cb := resilience.NewCircuitBreaker(nil)
		require.Equal(t, "default", cb.Name())
		succeedIn(t, cb, 5)
		failIn(t, cb, 4)
		require.Equal(t, closed, cb.State())
		failIn(t, cb, 1)
		require.Equal(t, open, cb.State())
		pass(30*time.Second - 1)
		require.Equal(t, open, cb.State())
		pass(1)
		require.Equal(t, halfOpen, cb.State())
		succeedIn(t, cb, 2)
		failIn(t, cb, 2)
		require.Equal(t, halfOpen, cb.State())
		succeedIn(t, cb, 1)
		require.Equal(t, closed, cb.State())
		failIn(t, cb, 9)
		pass(60 * time.Second)
		failIn(t, cb, 9)
		require.Equal(t, closed, cb.State())
	})
}

// ProbeTimeout follows a SleepWindow that is set on top of DefaultConfig.
func TestProbeTimeoutFollowsTheSleepWindow(t *testing.T) {
	c := resilience.DefaultConfig()
	c.SleepWindow = time.Second
	require.Equal(t, time.Second, thresholds(t, c).ProbeTimeout)
}
