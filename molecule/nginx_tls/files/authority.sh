# An authority, and a certificate as the great ones give them, for 90 days.
cd "$1"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj "/CN=Authority of the tests" \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout authority.key -out authority.pem
openssl req -x509 -CA authority.pem -CAkey authority.key -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 \
    -subj /CN=strict.example.com -addext subjectAltName=DNS:strict.example.com -addext basicConstraints=critical,CA:FALSE \
    -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=serverAuth \
    -keyout strict.key -out strict.pem
