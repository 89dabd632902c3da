# The probes of Redis. The ACL's user `probe` may do nothing but PING, and any password is right.
redis-cli -p "${PORT:-6379}" --tls --cacert "${CA:-/etc/encore/tls/ca.crt}" \
    --user probe --pass any --no-auth-warning ping | grep -q '^PONG$'
