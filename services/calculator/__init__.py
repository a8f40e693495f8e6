"""Which deployment for a workload, what it costs, and why: a typed engine without Streamlit."""
